"""What a run costs on one accelerator and on many, on paper: docs/scaling.md.

python -m launch.scaling --config=configs/ffhq1024.py:mix --config.remat=False \
    --gan=configs/ffhq1024.py:gan --gan.remat=False --out=docs/scaling.json --page=docs/scaling.md
python -m launch.scaling --from=docs/scaling.json --measure=configs/digits.py --out=docs/scaling.json
python -m launch.scaling --from=docs/scaling.json --page=docs/scaling.md

Operations and bytes are counted in the programs that the stages compile; no weights or data are read, and
nothing is allocated but by --measure, which runs the steps of a small configuration on this machine.

Exit status: 0 done, 2 bad input, 1 anything else.
"""

import shlex
import sys
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from launch import common

GAN = config_flags.DEFINE_config_file('gan', None, 'scaling: configuration that trains the generator.')
flags.FLAGS['gan'].parser = common.ConfigFile()
MEASURE = flags.DEFINE_string('measure', None, 'scaling: small configuration whose steps are timed here.')
REPEATS = flags.DEFINE_integer('repeats', 5, 'scaling: timed runs of which the median counts.', 1)
SOURCE = flags.DEFINE_string(
  'from', None, 'scaling: figures of an earlier --out; with --config its measurements alone.'
)
FIGURES = flags.DEFINE_string('out', None, 'scaling: file for the figures, JSON.')
PAGE = flags.DEFINE_string('page', None, 'scaling: Markdown file to write.')
ENCODED = flags.DEFINE_integer('images', 202_599, 'scaling: images to encode.', 1)
TRAINED = flags.DEFINE_integer('train_images', 162_770, 'scaling: of these, to train with.', 1)
TESTED = flags.DEFINE_integer('test_images', 19_962, 'scaling: of these, to attack in evaluation.', 1)
DEVICES = flags.DEFINE_list('devices', ['1', '8', '64'], 'scaling: numbers of devices.')
CLASSES = flags.DEFINE_integer('num_classes', 2, 'scaling: that are told apart.', 2)
PRODUCTS = flags.DEFINE_float('products', 0.4, 'scaling: share of the peak of matrix products.', 0.01, 1.0)
MEMORY = flags.DEFINE_float('memory', 0.7, "scaling: share of the memory's peak.", 0.01, 1.0)
LINKS = flags.DEFINE_float('links', 0.6, "scaling: share of the links' peaks.", 0.01, 1.0)


def main(argv: list[str]) -> int:
  common.show_help(argv)
  try:
    rest = flags.FLAGS(argv)[1:]
    if rest:
      raise ValueError(f'unexpected argument {rest[0]!r}; flags look like --config=configs/ffhq1024.py:mix')
    if not common.CONFIG.value and not SOURCE.value:
      raise ValueError('--config is missing')
  except Exception as error:  # The libraries' flag parsers raise many kinds.
    return common.complain(common.flag_error(error), common.BAD_INPUT)
  return run(argv)


@common.exit_status
def run(argv: list[str]) -> None:
  """Counts, or reads, and writes."""
  from advmix_jax.bench import scaling_page
  from advmix_jax.bench.hardware import Efficiency
  from advmix_jax.workdir import check_writable, write_json

  for flag, file in (('--out', FIGURES.value), ('--page', PAGE.value)):
    if file:
      check_writable(Path(file).parent, f'{flag}={file}')
  command = shlex.join(['python', '-m', 'launch.scaling', *argv[1:]])
  earlier: dict[str, Any] = {'measured': None}
  if SOURCE.value:
    earlier = scaling_page.read_figures(Path(SOURCE.value))
  figures = earlier
  if common.CONFIG.value:
    figures = count() | {'command': command, 'measured': earlier['measured']}
  if MEASURE.value:
    figures['measured'] = measure(MEASURE.value, Efficiency(**figures['efficiency'])) | {'command': command}
  if FIGURES.value:
    write_json(Path(FIGURES.value), figures)
  if PAGE.value:
    scaling_page.write_page(Path(PAGE.value), figures)


def count() -> dict[str, Any]:
  """All figures of the page."""
  from advmix_jax.bench import scaling, work
  from advmix_jax.bench.hardware import H200, Efficiency

  share = Efficiency(PRODUCTS.value, MEMORY.value, LINKS.value)
  numbers = device_numbers()
  networks = networks_of(common.CONFIG.value, '--config')
  gan = networks_of(GAN.value, '--gan') if GAN.value else networks
  works = []
  for found in work.of_run(networks, gan, 'advmix'):
    works.append(found)
    print(f'{found.stage}, {found.name}: {in_words(scaling.row(found, H200, share))}', flush=True)
  config = networks.config
  images = {
    'train_gan': gan.config.generator.total_kimg * 1000,
    'encode': ENCODED.value,
    'train': config.train.num_epochs * TRAINED.value,
    'evaluate': config.evaluate.num_restarts * TESTED.value,
  }
  return {
    'steps': [scaling.row(found, H200, share) for found in works],
    'hours': scaling.hours(works, images, numbers, H200, share),
    'numbers': numbers,
    'device': H200._asdict(),
    'efficiency': share._asdict(),
    'settings': settings(networks, gan),
  }


def settings(networks: Any, gan: Any) -> dict[str, Any]:
  """Of the configurations, as far as the page names them."""
  config, resolution = networks.config, networks.generator_model.resolution
  is_growing = gan.config.generator.structure != 'fixed'
  return {
    'resolution': resolution,
    'first_resolution': gan.config.generator.initial_resolution if is_growing else resolution,
    'gan_images': gan.config.generator.total_kimg * 1000,
    'encode_steps': config.encode.num_steps,
    'encode_resolution': networks.encode_resolution,
    'restarts': config.attack.num_restarts,
    'steps': config.attack.num_steps,
    'epochs': config.train.num_epochs,
    'train_images': TRAINED.value,
    'evaluate_restarts': config.evaluate.num_restarts,
    'evaluate_steps': config.evaluate.num_steps,
    'test_images': TESTED.value,
    'remat': bool(config.remat or gan.config.remat),
  }


def measure(file: str, share: Any) -> dict[str, Any]:
  """The same count for a small configuration, and the time that its steps take here."""
  import os

  from advmix_jax.bench import measured_steps
  from advmix_jax.bench.measurement import now
  from advmix_jax.workdir import environment

  load = os.getloadavg()[0]
  config = common.ConfigFile().parse(file)
  with config.unlocked():
    config.encode.target_error = config.encode.tolerance = 0.0  # All steps of every image and search count.
    config.evaluate.select = 'highest_loss'
  machine = measured_steps.this_machine(REPEATS.value)
  steps = []
  for row in measured_steps.check_steps(networks_of(config, '--measure'), machine, share, REPEATS.value):
    steps.append(row)
    print(
      f'measured {row["step"]}: {row["seconds"]:.3f} s, counted {row["counted_seconds"]:.3f} s', flush=True
    )
  return {
    'config': file,
    'steps': steps,
    'flops': machine.flops['float32'],
    'memory_rate': machine.memory_rate,
    'processor': machine.name,
    'repeats': REPEATS.value,
    'load': load,
    'date': now(),
  } | {key: environment()[key] for key in ('threads', 'packages')}


def device_numbers() -> list[int]:
  """Of --devices."""
  from advmix_jax.types import BadInputError

  for text in DEVICES.value:
    if not text.isdecimal() or int(text) < 1:
      raise BadInputError(f'--devices: found {text!r}, expected numbers from 1, separated by commas')
  return [int(text) for text in DEVICES.value]


def networks_of(config: ConfigDict, flag: str) -> Any:
  """Networks without weights."""
  from advmix_jax import config_check
  from advmix_jax.stages.networks import Networks
  from advmix_jax.types import BadInputError

  config_check.split_names(config)
  config_check.check_values(config)
  try:
    return Networks(config, Path(), CLASSES.value, CLASSES.value)
  except BadInputError:
    raise
  except ValueError as error:  # Networks and mixing level do not fit.
    raise BadInputError(f'{flag}: {error}') from error


def in_words(row: dict[str, Any]) -> str:
  flops = ', '.join(f'{value / 1e9:,.1f} GFLOP {dtype}' for dtype, value in row['flops'].items())
  text = f'{flops}, {row["bytes"] / 1e9:,.2f} GB for an image; {row["seconds"] * 1e3:,.2f} ms'
  return f'{text}, {row["memory_bound"]:.0%} of it waiting for memory'


if __name__ == '__main__':
  common.end_when_asked()
  sys.exit(main(sys.argv))
