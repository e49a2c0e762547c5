"""Stage 1 of a run with a generator from elsewhere: nothing is trained, the run keeps a copy of it."""

from pathlib import Path

from advmix_jax.interop import generator_folder
from advmix_jax.stages.experiment import Experiment
from advmix_jax.stages.sample_grids import grid_writer


def run(experiment: Experiment) -> None:
  """Writes `gan/`: all of the folder `generator.path`, and what its generator draws."""
  source, folder = Path(experiment.config.generator.path), experiment.generator_file.parent
  if (folder / generator_folder.DESCRIPTION).exists():
    return
  generator, critic = generator_folder.load_generator(source), generator_folder.load_discriminator(source)
  grid_writer(experiment)(generator.params, None, 'adopted')
  generator_folder.save_generator(
    folder, generator.description, generator.params, None if critic is None else critic[1]
  )
