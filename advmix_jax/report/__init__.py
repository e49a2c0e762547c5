"""What a run shows: picture grids, labelled figures and one self-contained HTML page.

`grids` (pillow) is cheap enough to be called while a GAN trains; `figures` (matplotlib) draws everything
that has axes or words; `page` (jinja2) binds results and figures into one file. All of them are functions of
numpy arrays that write one file, atomically, and return its path; none of them reads a run folder or sees a
network.
"""
