"""What the compiled steps of a run need of a device's memory; nothing is run, no data or weights are read.

python -m launch.memory --config=configs/ffhq1024.py [--config.key=value ...] [--out=memory.json]

The figures are this backend's: its compiler decides what is fused, kept and reused. So a CPU's are a plan for
CPUs, where bfloat16 convolutions may be computed in float32 copies, and an accelerator's differ.

Exit status: 0 done, 2 bad input, 1 anything else.
"""

import sys
from pathlib import Path

from absl import flags

from launch import common

OUT = flags.DEFINE_string('out', None, 'memory: file for the figures, JSON.')
CLASSES = flags.DEFINE_integer('classes', 10, 'memory: classes of the data, which is not looked at.', 1)


def main(argv: list[str]) -> int:
  common.show_help(argv)
  try:
    common.read_config(argv)
  except Exception as error:  # The libraries' flag parsers raise many kinds.
    return common.complain(common.flag_error(error), common.BAD_INPUT)
  return measure(argv)


@common.exit_status
def measure(argv: list[str]) -> None:
  """Prints a line for each step as soon as it is compiled."""
  import shlex

  import jax

  from advmix_jax import config_check, parallel
  from advmix_jax.stages import pipeline, step_memory
  from advmix_jax.stages.networks import Networks
  from advmix_jax.types import BadInputError
  from advmix_jax.workdir import check_writable, write_json

  config = common.CONFIG.value
  parallel.use(config.devices, 'config.devices')
  config_check.split_names(config)
  config_check.check_values(config)
  pipeline.check_stages(tuple(config.stages))
  if OUT.value:
    check_writable(Path(OUT.value).parent, f'--out={OUT.value}')
  try:
    networks = Networks(config, Path(), CLASSES.value, CLASSES.value)
  except BadInputError:
    raise
  except ValueError as error:  # Networks and mixing level do not fit.
    raise BadInputError(f'--config={flags.FLAGS["config"].value}: {error}') from error
  steps = []
  print(
    f'memory on each of {parallel.num_devices()} {jax.default_backend()} device(s), as its compiler plans'
  )
  for figures in step_memory.measure(networks, tuple(config.stages)):
    steps.append(figures)
    parts = ', '.join(f'{name} {mib(figures[name])}' for name in ('arguments', 'temporaries', 'outputs'))
    print(
      f'{figures["step"]}: batch {figures["batch_size"]} in parts of {figures["part_size"]}: '
      f'total {mib(figures["total"])} MiB ({parts}, shared {mib(figures["shared"])})',
      flush=True,
    )
  if OUT.value:
    command = shlex.join(['python', '-m', 'launch.memory', *argv[1:]])
    backend = {'backend': jax.default_backend(), 'devices': parallel.num_devices(), 'jax': jax.__version__}
    write_json(Path(OUT.value), {'steps': steps, 'command': command, **backend})


def mib(size: int) -> str:
  return f'{size / 2**20:,.1f}'


if __name__ == '__main__':
  common.end_when_asked()
  sys.exit(main(sys.argv))
