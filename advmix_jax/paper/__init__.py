"""The paper's figures and tables: its numbers, ours beside them, and whether its claims hold.

`published` has the paper's numbers, `rows` takes ours from a sweep, `claims` compares them, `record` keeps
what was run as JSON, `page` and `figures` show it.
"""
