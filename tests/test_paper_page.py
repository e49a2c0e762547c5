"""`--record` and `page`: records and their figures on one page; what is no record is refused."""

import json
import pathlib

import pytest

from advmix_jax.paper import page
from advmix_jax.types import BadInputError
from launch import reproduce
from tests.test_paper_configs import planned
from tests.test_paper_results import finish, rendered, table_2

pytestmark = pytest.mark.usefixtures('fresh_flags')
ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture
def results(tmp_path):
  """The folder of records, with Table 2."""
  finish(tmp_path / 'table2', planned('table2', 'cpu'), table_2)
  rendered(tmp_path / 'table2', 'table2:cpu', f'--record={tmp_path / "docs" / "results"}')
  return tmp_path / 'docs' / 'results'


def test_a_record_is_put_on_the_page_with_its_figure(results, tmp_path):
  assert {file.name for file in results.iterdir()} == {'table2.json', 'table2.png'}
  text = results.with_suffix('.md').read_text()
  assert '![Table 2](results/table2.png)' in text and '| Table 2, `cpu` |' in text
  assert str(tmp_path) not in text and str(tmp_path) not in (results / 'table2.json').read_text()
  (results / 'table2.notes.md').write_text('Why it is so.\n')
  assert reproduce.main(['reproduce', 'page', f'--record={results}']) == 0
  assert 'Why it is so.' in results.with_suffix('.md').read_text()


def test_classifiers_that_give_all_images_one_class_are_marked(results):
  given = json.loads((results / 'table2.json').read_text())
  assert '†' not in page.table(given)
  row = given['rows'][1]
  row['one_class'] = [False, True, True]
  text = page.table(given)
  assert text.endswith(f'nothing was learnt. {row["setting"]}, {row["method"]}: seed 1, 2.')
  assert [line.count('†') for line in text.splitlines()[2:5]] == [0, 1, 0]


def test_results_are_in_the_order_of_the_paper(results):
  given = json.loads((results / 'table2.json').read_text())
  for name in ('table1', 'figure7'):
    (results / f'{name}.json').write_text(json.dumps(given | {'name': name, 'rows': []}))
  text = page.write_page(results).read_text()
  assert text.index('## Figure 7') < text.index('## Table 1') < text.index('## Table 2')


@pytest.mark.parametrize(
  'contents, words',
  [
    (None, 'found no .*json'),
    ('{', 'x.json: Expecting property name'),
    ('[]', 'x.json: found list, expected a file of launch.reproduce --record'),
    ('{"rows": 3}', 'x.json: rows is 3'),
  ],
)
def test_what_is_no_record_is_refused(tmp_path, contents, words):
  (tmp_path / 'results').mkdir()
  if contents is not None:
    (tmp_path / 'results' / 'x.json').write_text(contents)
  with pytest.raises(BadInputError, match=words):
    page.write_page(tmp_path / 'results')


def test_a_record_without_its_runs_is_refused(results):
  file = results / 'table2.json'
  file.write_text(json.dumps(json.loads(file.read_text()) | {'runs': {'done': []}}))
  with pytest.raises(BadInputError, match='table2.json: runs has done, expected done and planned'):
    page.write_page(results)


@pytest.mark.parametrize(
  'changed, words',
  [
    ({'method': None}, 'row 1: method is None'),
    ({'accuracy_mean': 'high'}, "row 1: accuracy_mean is 'high'"),
    ({'accuracies': [0.5]}, r'row 1: accuracies is \[0.5\] for 3 seeds'),
    ({'outcomes': ['ff', 'ff', 'ff'], 'num_examples': 9}, "outcomes has 'ff', not 4 hexadecimal"),
    ({'one_class': [True]}, r'row 1: one_class is \[True\] for 3 seeds'),
    ({'outcomes': ['0g', '', ''], 'num_examples': 8}, "outcomes has '0g', not 2 hexadecimal"),
  ],
)
def test_a_record_with_a_row_that_is_none_is_refused(results, changed, words):
  file = results / 'table2.json'
  record = json.loads(file.read_text())
  del record['rows'][1]['outcomes']
  record['rows'][1] |= changed
  file.write_text(json.dumps(record))
  with pytest.raises(BadInputError, match=f'table2.json: .*{words}'):
    page.write_page(results)


def test_the_page_of_this_repository_is_made_from_its_records(tmp_path):
  """By `python -m launch.reproduce page --record=docs/results`."""
  copy = tmp_path / 'results'
  copy.mkdir()
  for file in (ROOT / 'docs' / 'results').iterdir():
    (copy / file.name).write_bytes(file.read_bytes())
  assert page.write_page(copy).read_text() == (ROOT / 'docs' / 'results.md').read_text()
