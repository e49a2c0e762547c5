"""What the paper reports, and how a run of ours finds its place there.

All numbers are of Gowal et al., "Achieving Robustness in the Wild via Adversarial Mixing with Disentangled
Representations", CVPR 2020: test accuracies in [0, 1], of a single run each.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Config = Mapping[str, Any]  # Nested, as JSON has it.
UNBIASED, LESS_BIASED, MORE_BIASED = 'unbiased', 'less biased', 'more biased'
RED_99, RED_999 = '99 % red', '99.9 % red'
SMILING = 'Smiling'


class Result(NamedTuple):
  """A figure or a table.

  Attributes:
    title: in the paper.
    caption: what it shows, in our words.
    settings: what its settings are.
    measure: key of `results.json` that it shows; `near_a_mode` of figure 4.
    setting_of: a run's setting.
    method_of: what a method of a run is called here; `at` of two strengths is two methods.
    numbers: accuracy by setting and method; what the paper does not have is not there.
    note: what a reader must know of `numbers`; '' = nothing.
  """

  title: str
  caption: str
  settings: str
  measure: str
  setting_of: Callable[[Config], str]
  method_of: Callable[[Config, str], str]
  numbers: Mapping[tuple[str, str], float]
  note: str = ''


def sigma_of(config: Config) -> str:
  return f'σ = {config["data"]["sigma"]:g}'


def class_bias_of(config: Config) -> str:
  """Of table 1: by how many classes most of the generator's data are of."""
  shares = config['data']['generator_classes']
  common = sum(share > 0.2 for share in shares)
  return {0: UNBIASED, 1: MORE_BIASED, 2: LESS_BIASED}.get(common, f'mostly {common} classes')


def red_share_of(config: Config) -> str:
  shares = config['data']['generator_colours']
  return f'{100 * shares[0]:.4g} % red' if len(shares) and max(shares) > min(shares) else UNBIASED


def attribute_of(config: Config) -> str:
  return config['data']['attribute']


def same_name(config: Config, method: str) -> str:
  return method


def with_strength(config: Config, method: str) -> str:
  """AT with the radius of its attack, in steps of 8-bit pixels."""
  return f'at {255 * config["at"]["epsilon"]:.3g}/255' if method == 'at' else method


def table(settings: tuple[str, ...], rows: Mapping[str, tuple[float, ...]]) -> dict[tuple[str, str], float]:
  """Percent by method, in the order of the settings, as shares."""
  return {
    (setting, method): round(value / 100, 6)
    for method, values in rows.items()
    for setting, value in zip(settings, values, strict=True)
  }


TABLE_1 = table(
  (UNBIASED, LESS_BIASED, MORE_BIASED), {'randmix': (99.11, 98.87, 97.63), 'advmix': (99.19, 99.07, 98.79)}
)
TABLE_2 = table(
  (UNBIASED, RED_99, RED_999), {'randmix': (88.55, 83.18, 53.56), 'advmix': (85.07, 85.02, 85.00)}
)
ATTRIBUTES = ('attribute 1', SMILING, 'attribute 3', 'attribute 4')  # Three are not named.
TABLE_3 = table(
  ATTRIBUTES,
  {
    'nominal': (96.49, 90.22, 83.52, 78.05),
    'mixup': (97.22, 90.95, 85.16, 76.80),
    'cutout': (96.92, 90.44, 84.94, 76.59),
    'cutmix': (97.18, 90.88, 85.67, 78.50),
    'at 4/255': (95.34, 91.11, 81.43, 76.61),
    'at 8/255': (95.22, 89.29, 79.46, 74.39),
    'randmix': (96.70, 90.36, 84.49, 76.41),
    'advmix': (97.56, 92.29, 85.65, 79.47),
  },
)
TABLE_4 = table(
  ATTRIBUTES,
  {
    'nominal': (40.35, 18.60, 3.31, 0.23),
    'mixup': (50.48, 30.49, 3.51, 0.03),
    'cutout': (61.58, 17.55, 2.91, 0.14),
    'cutmix': (32.86, 15.46, 1.47, 0.19),
    'at 4/255': (48.91, 60.93, 52.92, 9.74),
    'at 8/255': (45.01, 56.19, 62.71, 5.68),
    'randmix': (39.41, 23.51, 3.19, 0.42),
    'advmix': (84.29, 74.55, 69.55, 47.95),
  },
)
# Table 1's unbiased generator is figure 7's at sigma 0; the rest of the figure has no numbers.
FIGURE_7 = {('σ = 0', method): TABLE_1[UNBIASED, method] for method in ('randmix', 'advmix')}
ANONYMOUS = (
  'Of its four attributes the paper names Smiling alone, so the others have no number of its beside ours.'
)

RESULTS = {
  'figure4': Result(
    'Figure 4',
    'Share of points within three standard deviations of a true mode: the toy data, and what AdvMix and '
    'mixup make of them.',
    'near',
    'near_a_mode',
    lambda config: 'a true mode',
    same_name,
    {},
    'The paper has pictures only. This one is of the first seed.',
  ),
  'figure7': Result(
    'Figure 7',
    'Colour-MNIST: accuracy on uniformly coloured test digits against σ, the spread of the training colours.',
    'σ',
    'clean_accuracy',
    sigma_of,
    same_name,
    FIGURE_7,
    'The paper has curves; its numbers at σ = 0 are those of Table 1.',
  ),
  'table1': Result(
    'Table 1',
    'Colour-MNIST, σ = 0: accuracy on uniformly coloured test digits when the generator has seen mostly '
    'zeros and ones (less biased) or mostly zeros (more biased).',
    'generator',
    'clean_accuracy',
    class_bias_of,
    same_name,
    TABLE_1,
  ),
  'table2': Result(
    'Table 2',
    'RGB Colour-MNIST, linear classifier: accuracy on test digits of the three colours when the generator '
    'has seen mostly red ones.',
    'generator',
    'clean_accuracy',
    red_share_of,
    same_name,
    TABLE_2,
  ),
  'table3': Result(
    'Table 3',
    'CelebA: accuracy on the original test images.',
    'attribute',
    'clean_accuracy',
    attribute_of,
    with_strength,
    TABLE_3,
    ANONYMOUS,
  ),
  'table4': Result(
    'Table 4',
    'CelebA: accuracy under perturbation (Algorithm 2).',
    'attribute',
    'perturbed_accuracy',
    attribute_of,
    with_strength,
    TABLE_4,
    ANONYMOUS,
  ),
}
# Tables 3 and 4 are of the same runs.
TOGETHER = {'table3': ('table3', 'table4'), 'table4': ('table3', 'table4')}
COUNTED = {
  'clean_accuracy': 'num_examples',
  'perturbed_accuracy': 'num_perturbed_examples',
  'near_a_mode': 'num_points',
}  # By measure: the key of the number of examples behind it.


def together(name: str) -> tuple[str, ...]:
  """The results that the runs of `name` give."""
  return TOGETHER.get(name, (name,))
