"""The report's page is whole, escaped, and needs nothing else."""

import html.parser
import re

import numpy as np
import pytest

from advmix_jax.report import charts, grids, page

HOSTILE = '<script>alert("&")</script>'

RESULTS = {
  'advmix': {
    'clean_accuracy': 0.9,
    'perturbed_accuracy': 0.8,
    'worst_class_accuracy': 0.6,
    'per_class_accuracy': [0.9, 0.6, 1.0],
    'num_examples': 360,
    'num_perturbed_examples': 200,
  },
  'nominal': {'clean_accuracy': 0.295, 'num_examples': 360},
  'mine': {'clean_accuracy': 0.1},
}


def test_method_rows_follow_the_paper_and_find_the_worst_class():
  rows = page.method_rows(RESULTS, ['zero', 'one', 'two'])
  assert [row.name for row in rows] == ['nominal', 'advmix', 'mine']
  advmix = rows[1]
  assert (advmix.title, advmix.worst_class_name, advmix.num_perturbed) == ('AdvMix', 'one', 200)
  assert advmix.per_class == {'zero': 0.9, 'one': 0.6, 'two': 1.0}
  assert rows[0].perturbed is None


class _Reader(html.parser.HTMLParser):
  """Collects tags, their attributes and the text, and checks that tags are closed in order."""

  VOID = frozenset({'meta', 'img', 'br', 'link'})

  def __init__(self, text: str):
    super().__init__()
    self.tags, self.open, self.text = [], [], ''
    self.feed(text)
    assert not self.open

  def handle_starttag(self, tag, attrs):
    self.tags.append((tag, dict(attrs)))
    if tag not in self.VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    if self.open and self.open[-1] != 'style':
      self.text += data


@pytest.fixture
def written_page(tmp_path):
  figure = grids.save_grid(tmp_path / 'grid.png', np.zeros((2, 2, 16, 16, 3), np.uint8))
  sections = [
    page.Section('First', 'One.\n\nTwo.', figure, 'What it shows', pixelated=True),
    page.Section(f'Second {HOSTILE}', HOSTILE, figure, f'"quoted" {HOSTILE}', alt=f'" onload="{HOSTILE}'),
    page.Section('Words alone', 'No picture.'),
  ]
  report = page.Report(
    title=f'Run {HOSTILE}',
    summary=('It works.',),
    rows=page.method_rows(RESULTS),
    sections=sections,
    seeds={'seed': 7},
    attack={'restarts': 10, 'epsilon': 0.03},
    settings={'data.name': HOSTILE},
    versions={'jax': '0.10.2'},
  )
  path = page.write_page(tmp_path / 'report' / 'index.html', report)
  return path.read_text('utf-8')


def test_page_is_well_formed_and_says_everything(written_page):
  reader = _Reader(written_page)
  text = ' '.join(reader.text.split())
  for words in (
    'It works.',
    'First',
    'One.',
    'Two.',
    'Words alone',
    'seed 7',
    '90.0 %',
    '80.0 %',
    '60.0 %',
    'class 1',
  ):
    assert words in text, words
  for words in ('29.5 %', 'not measured', '360 / 200', 'restarts', '0.03', 'jax', '0.10.2', 'mine'):
    assert words in text, words
  ids = [attributes['id'] for _, attributes in reader.tags if 'id' in attributes]
  assert len(ids) == len(set(ids))
  links = {attributes['href'] for tag, attributes in reader.tags if tag == 'a'}
  assert links == {
    f'#{name}' for name in ('results', 'groups', 'section-1', 'section-2', 'section-3', 'settings')
  }
  assert {link[1:] for link in links} <= set(ids)


def test_worst_groups_name_the_class_and_how_sure_its_number_is(tmp_path):
  rows = page.method_rows(
    {
      'nominal': {'per_class_accuracy': [0.5, 0.5, 1.0], 'per_class_perturbed_accuracy': [0.0, 0.25, 1.0]},
      'advmix': {
        **{'clean_accuracy': 0.9, 'clean_accuracy_sd': 0.012, 'per_seed': [{}, {}]},
        **{'per_class_accuracy': [0.9, 0.6, 1.0]},
      },
    },
    ['zero', 'one', 'two'],
  )
  sizes = {'zero': (8, 4), 'one': (8, 4), 'two': (8, 4)}
  text = page.write_page(tmp_path / 'p.html', page.Report('Run', rows=rows, class_sizes=sizes)).read_text()
  words = ' '.join(_Reader(text).text.split())
  groups = words[words.index('Accuracy by group') :]
  assert 'Nominal 66.7 % 50.0 %2 classes 41.7 % 0.0 %class zero' in groups
  low, high = charts.wilson_interval(0.0, 4)
  assert f'{100 * low:.1f} to {100 * high:.1f}, 4 images' in groups
  assert '83.3 % 60.0 %class one not measured' in groups
  assert '± 1.2, 2 seeds' in words


def test_page_needs_nothing_else(written_page):
  reader = _Reader(written_page)
  assert not {'script', 'link', 'iframe', 'object', 'base'} & {tag for tag, _ in reader.tags}
  for tag, attributes in reader.tags:
    assert attributes.get('src', 'data:').startswith('data:image/png;base64,') or tag != 'img'
    assert not any(name.startswith('on') for name in attributes)
  assert not re.search(r'(?:https?:)?//|@import|url\(', re.sub(r'base64,[A-Za-z0-9+/=]+', '', written_page))


def test_page_is_escaped_and_accessible(written_page):
  assert HOSTILE not in written_page
  reader = _Reader(written_page)
  assert HOSTILE in reader.text
  images = [attributes for tag, attributes in reader.tags if tag == 'img']
  assert len(images) == 2
  assert all(image['alt'] and int(image['width']) > 0 and int(image['height']) > 0 for image in images)
  assert images[1]['alt'] == f'" onload="{HOSTILE}'
  assert all('scope' in attributes for tag, attributes in reader.tags if tag == 'th')
  assert dict(reader.tags)['html'] == {'lang': 'en'}


def test_page_without_results_or_with_a_broken_picture(tmp_path):
  text = page.write_page(tmp_path / 'index.html', page.Report('Nothing yet')).read_text('utf-8')
  assert 'Results' not in text
  broken = tmp_path / 'broken.png'
  broken.write_text('GIF89a')
  report = page.Report('Broken', sections=(page.Section('S', 'T', broken),))
  with pytest.raises(ValueError, match=r'broken\.png is not a PNG'):
    page.write_page(tmp_path / 'other.html', report)
  assert not (tmp_path / 'other.html').exists()
