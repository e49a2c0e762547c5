"""The explorer in headless Chromium: what is shown is what the data says, by mouse and by keyboard."""

import numpy as np
import pytest

from advmix_jax.report import page, pictures
from tests import browser, explorer_data

PROGRAM = browser.find()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason='no Chromium on PATH (.ci/chromium installs it)')


@pytest.fixture(scope='module')
def tab():
  with browser.start(PROGRAM) as tab:
    yield tab


@pytest.fixture(scope='module')
def written(tmp_path_factory):
  """`written(**given)` writes the page of an explorer and returns both."""

  def write(**given):
    made = explorer_data.make(**given)
    rows = page.method_rows(
      {
        'nominal': {
          'clean_accuracy': 0.5,
          'num_examples': 9,
          'per_class_accuracy': [0.5] * len(made.class_names),
        }
      },
      made.class_names,
    )
    report = page.Report('Run', rows=rows, sections=[page.Section('Explorer', 'Text.', explorer=made)])
    return page.write_page(tmp_path_factory.mktemp('page') / 'index.html', report), made

  return write


@pytest.fixture
def opened(tab, written):
  """A page of three classes and three methods, just opened; it must not complain."""
  path, made = written()
  tab.complaints.clear()
  tab.open(path)
  yield made
  assert not tab.complaints


def number_listed(tab) -> int:
  number = tab.value("document.getElementById('explorer-list').children.length")
  assert tab.value("document.getElementById('explorer-count').textContent").startswith(f'{number} of 24 ')
  return number


def shown(tab) -> str:
  return tab.value("document.getElementById('explorer-name').textContent")


def chip(value: str) -> str:
  return f'#explorer-outcome [value={value}]'


def outcomes(made, a: str = 'nominal', b: str = 'advmix') -> dict[str, np.ndarray]:
  """Which examples each outcome holds, in the words of NumPy."""
  by_name = {one.method: one.fooled for one in made.seeds[0].classifiers}
  fooled, other = by_name[a], by_name[b]
  return {
    'any': np.ones_like(fooled),
    'a': fooled & ~other,
    'b': ~fooled & other,
    'both': fooled & other,
    'neither': ~fooled & ~other,
  }


def test_outcomes_are_counted_and_filter(tab, opened):
  for value, members in outcomes(opened).items():
    words = tab.value(f"document.querySelector('{chip(value)}').nextElementSibling.textContent")
    assert words.split()[-1] == str(members.sum())
    tab.click(chip(value))
    assert number_listed(tab) == members.sum()


def test_filters_are_joined_and_their_counts_follow(tab, opened):
  tab.choose('#explorer-class', '1 ')
  assert number_listed(tab) == (opened.labels == 1).sum()
  for value, members in outcomes(opened).items():
    tab.click(chip(value))
    assert number_listed(tab) == (members & (opened.labels == 1)).sum()
  tab.click(chip('any'))
  nominal, advmix = opened.seeds[0].classifiers[0], opened.seeds[0].classifiers[-1]
  read = [one.original.argmax(1) == opened.labels for one in (nominal, advmix)]
  tab.choose('#explorer-class', 'any')
  for words, wanted in (
    ('both', read[0] & read[1]),
    ('Nominal only', read[0] & ~read[1]),
    ('neither', ~read[0] & ~read[1]),
  ):
    tab.choose('#explorer-clean', words)
    assert number_listed(tab) == wanted.sum()


def test_no_image_passes_is_said_and_is_no_error(tab, written):
  path, _ = written(count=1, num_classes=2)
  tab.complaints.clear()
  tab.open(path)
  tab.choose('#explorer-class', '1 (0)')
  assert tab.value("document.getElementById('explorer-count').textContent").startswith('0 of 1 ')
  assert tab.value("document.getElementById('explorer-example').hidden")
  tab.choose('#explorer-class', 'any')
  assert not tab.value("document.getElementById('explorer-example').hidden")
  assert not tab.complaints


def test_arrow_keys_move_between_images(tab, opened):
  assert 'image 100,' in shown(tab)
  tab.value('document.querySelector(\'#explorer-list [tabindex="0"]\').focus()')
  places = []
  for key in ('ArrowRight', 'ArrowRight', 'ArrowLeft', 'End', 'ArrowRight', 'Home', 'ArrowDown', 'ArrowUp'):
    tab.press(key)
    places.append(int(shown(tab).split()[2].rstrip(',')))
    assert tab.value("document.activeElement.getAttribute('aria-selected')") == 'true'
  assert places[:6] == [101, 102, 101, 123, 123, 100] and places[6] > 101 and places[7] == 100
  assert tab.value('document.querySelectorAll(\'#explorer-list [tabindex="0"]\').length') == 1


def test_everything_is_reached_with_the_tab_key_and_its_focus_is_seen(tab, opened):
  reached = set()
  for _ in range(40):
    tab.press('Tab')
    reached.add(
      tab.value('document.activeElement.id || document.activeElement.role || document.activeElement.name')
    )
    if tab.value("document.activeElement.closest('.explorer') !== null"):
      assert tab.value(
        '[document.activeElement, document.activeElement.nextElementSibling].some('
        "(element) => element && getComputedStyle(element).outlineStyle === 'solid')"
      )
  wanted = {
    f'explorer-{name}' for name in ('a', 'b', 'variants', 'difference', 'class', 'clean', 'outcome', 'next')
  }
  assert wanted | {'option'} <= reached


def test_a_click_and_the_buttons_choose_an_image(tab, opened):
  tab.click('#explorer-list [role=option]:nth-child(6)')
  assert 'image 105,' in shown(tab)
  tab.click('#explorer-next')
  assert 'image 106,' in shown(tab)
  tab.click('#explorer-previous')
  tab.click('#explorer-previous')
  assert 'image 104,' in shown(tab) and 'class 1' in shown(tab)


def readings_shown(tab, view: str, place: int) -> list[list[str]]:
  """Names and percentages below a picture for the first or the second classifier."""
  return tab.value(
    f"[...document.querySelectorAll('[data-view={view}] .reading')[{place}].querySelectorAll('li')].map("
    "(li) => [li.querySelector('.name').textContent, li.querySelector('.share').textContent])"
  )


def percents(probabilities: np.ndarray) -> list[list[str]]:
  """What stands below a picture, most likely class first."""

  def percent(share: float) -> str:
    return '< 0.1 %' if share < 0.001 else '> 99.9 %' if share > 0.999 else f'{100 * share:.1f} %'

  order = np.argsort(-probabilities, kind='stable')
  return [[str(k), percent(round(float(probabilities[k]), 4))] for k in order]


def test_selects_change_whose_probabilities_are_shown(tab, opened):
  by_name = {one.method: one for one in opened.seeds[0].classifiers}
  assert readings_shown(tab, 'original', 0) == percents(by_name['nominal'].original[0])
  assert readings_shown(tab, 'variant', 1) == percents(by_name['advmix'].variants[0][0])
  tab.choose('#explorer-a', 'AT')
  assert readings_shown(tab, 'original', 0) == percents(by_name['at'].original[0])
  assert readings_shown(tab, 'reconstruction', 0) == percents(by_name['at'].reconstruction[0])
  assert tab.value("document.querySelector('#explorer-outcome').textContent").count('Only AT') == 1


def test_variants_of_each_attack_are_shown_or_their_absence_is_explained(tab, opened):
  evaluated = {
    found.method: v for v, found in enumerate(opened.seeds[0].variants) if found.kind == 'evaluated'
  }
  tab.choose('#explorer-variants', 'against AdvMix, as evaluated')
  advmix, v = opened.seeds[0].classifiers[-1], evaluated['advmix']
  present = opened.seeds[0].variants[v].present
  assert present.any() and not present.all()
  for example, there in enumerate(present):
    tab.click(f'#explorer-list [role=option]:nth-child({example + 1})')
    if there:
      assert readings_shown(tab, 'variant', 1) == percents(advmix.variants[v][example])
    else:
      words = tab.value("document.querySelector('[data-view=none]').textContent")
      misread = advmix.original[example].argmax() != opened.labels[example]
      assert ('misreads the image as it is' if misread else 'holds') in words


def canvas_pixels(tab, view: str, side: int) -> np.ndarray:
  data = tab.value(
    f"[...document.querySelector('[data-view={view}] canvas').getContext('2d')"
    f'.getImageData(0, 0, {side}, {side}).data]'
  )
  return np.array(data, np.uint8).reshape(side, side, 4)[..., :3]


def test_pictures_and_their_difference_are_those_of_the_report(tab, opened):
  tab.click('#explorer-list [role=option]:nth-child(8)')
  original, variant = opened.originals[7], opened.seeds[0].variants[0].images[7]
  np.testing.assert_array_equal(canvas_pixels(tab, 'original', 8), original)
  np.testing.assert_array_equal(canvas_pixels(tab, 'reconstruction', 8), opened.reconstructions[7])
  np.testing.assert_array_equal(canvas_pixels(tab, 'variant', 8), variant)
  for name, before in (('original', original), ('reconstruction', opened.reconstructions[7])):
    tab.choose('#explorer-difference', name)
    wanted, scale = pictures.rescaled_difference(before, variant)
    np.testing.assert_allclose(
      canvas_pixels(tab, 'difference', 8).astype(int), wanted, atol=1
    )  # Ties of rounding.
    words = tab.value("document.querySelector('[data-view=difference] figcaption').textContent")
    assert f'× {127.5 / scale:.2f}' in words and f'±{scale} of 255' in words


def test_the_table_counts_what_is_listed(tab, opened):
  tab.click(chip('both'))
  members = outcomes(opened)['both']
  cells = tab.value("[...document.querySelectorAll('#explorer-summary td')].map((cell) => cell.textContent)")
  nominal, advmix = opened.seeds[0].classifiers[0], opened.seeds[0].classifiers[-1]
  for row, one in ((cells[:4], nominal), (cells[4:], advmix)):
    read = [p.argmax(1) == opened.labels for p in (one.original, one.reconstruction, one.variants[0])]
    wanted = [int((part & members).sum()) for part in (*read, ~one.fooled)]
    assert [int(cell.split()[0]) for cell in row] == wanted


def test_seeds_are_chosen_and_have_their_own_readings(tab, written):
  path, made = written(seeds=(5, 6))
  tab.complaints.clear()
  tab.open(path)
  tab.choose('#explorer-seed', '6')
  assert readings_shown(tab, 'original', 0) == percents(made.seeds[1].classifiers[0].original[0])
  assert not tab.complaints


@pytest.mark.parametrize('width', [390, 1280])
@pytest.mark.parametrize('num_classes, method', [(2, 'advmix'), (100, 'nominal')])
def test_names_of_any_kind_and_length_are_text_and_fit(tab, written, width, num_classes, method):
  names = explorer_data.long_names(num_classes)
  path, _ = written(count=num_classes, num_classes=num_classes, names=names, methods=(method,))
  tab.complaints.clear()
  tab.open(path, width)
  tab.click('#explorer-list [role=option]:nth-child(2)')
  assert names[1] in shown(tab) and explorer_data.HOSTILE in names[1]
  assert tab.value("document.querySelectorAll('img').length") == 0
  assert tab.value('document.documentElement.scrollWidth') <= width
  outside = tab.value(
    "(() => { const whole = document.getElementById('explorer').getBoundingClientRect();"
    "return [...document.querySelectorAll('#explorer-views *, .choices *:not(option)')].filter((element) => {"
    'const box = element.getBoundingClientRect();'
    'return box.width && (box.right > whole.right + 1 || box.left < whole.left - 1);'
    '}).map((element) => element.outerHTML); })()'
  )
  assert not outside
  assert not tab.complaints


def test_it_prints_without_its_controls(tab, opened):
  assert tab.print().startswith(b'%PDF')
  tab.show_as('print')
  hidden = "getComputedStyle(document.querySelector('{}')).display === 'none'"
  try:
    assert tab.value(hidden.format('.choices')) and tab.value(hidden.format('#explorer-list'))
    assert not tab.value(hidden.format('#explorer-views'))
  finally:
    tab.show_as('screen')


def test_only_the_script_of_the_page_would_run(tab, opened):
  refused = tab.value(
    "new Promise((done) => { addEventListener('securitypolicyviolation', (event) => "
    'done(event.violatedDirective)); '
    "document.body.append(Object.assign(document.createElement('script'), { textContent: 'ran = 1' })); })"
  )
  assert refused.startswith('script-src') and tab.value('typeof ran') == 'undefined'
  tab.complaints.clear()  # The browser says that it refused.
