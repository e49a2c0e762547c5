"""Figure 4 as a stage: what AdvMix and mixup make of a toy data set, drawn and counted."""

import json
from pathlib import Path

import jax
import ml_collections
import numpy as np

from advmix_jax import toy
from advmix_jax.report import charts, grids, page
from advmix_jax.stages.experiment import Experiment


def run(experiment: Experiment) -> None:
  """Writes `report/toy.png`, `report/index.html` and `results.json`."""
  config, folder = experiment.config, experiment.workdir.path
  data_key, advmix_key, mixup_key = jax.random.split(jax.random.key(config.seed), 3)
  data = toy.draw_data(data_key, config.toy)
  panels = {
    'data': data,
    'advmix': toy.advmix_samples(advmix_key, data, config.toy.num_samples, config.toy),
    'mixup': toy.mixup_samples(mixup_key, data, config.toy.num_samples, config.mixup.alpha),
  }
  shares = {name: toy.agreement(points, config.toy) for name, points in panels.items()}
  means, deviations, _ = toy.modes(config.toy)
  titles = {'data': '(a) data', 'advmix': '(b) AdvMix', 'mixup': '(c) mixup'}
  figure = charts.save_scatter_panels(
    folder / 'report' / 'toy.png',
    {
      f'{titles[name]}\n{100 * shares[name]["near_a_mode"]:.1f} % near a true mode': (
        np.asarray(points.x),
        np.asarray(points.labels),
      )
      for name, points in panels.items()
    },
    means,
    deviations,
  )
  page.write_page(folder / 'report' / 'index.html', _report(config, shares, figure))
  results = {'methods': {}, 'seed': config.seed, 'toy': {**shares, 'mixup_alpha': config.mixup.alpha}}
  text = json.dumps(results, indent=2, sort_keys=True) + '\n'
  grids.write_atomically(folder / 'results.json', text.encode())


def _report(config: ml_collections.ConfigDict, shares: dict, figure: Path) -> page.Report:
  def percent(name: str, key: str = 'near_a_mode') -> str:
    return f'{100 * shares[name][key]:.1f} %'

  summary = (
    f'{percent("advmix")} of the AdvMix samples and {percent("mixup")} of the mixup samples lie within three '
    f'standard deviations of a true mode; of the data themselves {percent("data")} do.',
    f'With the right label: AdvMix {percent("advmix", "near_a_mode_of_its_label")}, '
    f'mixup {percent("mixup", "near_a_mode_of_its_label")}.',
  )
  text = (
    'Each point has two coordinates. The vertical one, x2, depends on the class (colour and shape of the '
    'mark); the horizontal one, x1, does not. Dashed ellipses mark three standard deviations around the four '
    'true modes.\n\nAdvMix takes the vertical coordinate of one point and the horizontal one of another '
    '(Equation 11): the result is where data can be, and its label is right. mixup blends two points and '
    'their labels (Equation 10): the blends of two classes lie where there are no data. AdvMix is told which '
    'coordinate carries the label, mixup is not.'
  )
  caption = (
    f'Figure 4 of the paper: {shares["data"]["num_points"]} data points, {shares["advmix"]["num_points"]} '
    f'samples of each method, mixup with alpha = {config.mixup.alpha}.'
  )
  settings = {f'toy.{key}': config.toy[key] for key in sorted(config.toy)}
  return page.Report(
    title='AdvMix and mixup on a toy example',
    summary=summary,
    sections=(page.Section('Two factors, one of which carries the label', text, figure, caption),),
    seeds={'seed': config.seed},
    settings={**settings, 'mixup.alpha': config.mixup.alpha},
    versions={'jax': jax.__version__, 'numpy': np.__version__},
  )
