"""What a finished run took, by stage and training image."""

from pathlib import Path
from typing import Any

from advmix_jax.stages import clock
from advmix_jax.types import BadInputError
from advmix_jax.workdir import read_json, read_metrics

COUNTED = ('train_gan', 'encode', 'train', 'evaluate', 'report')


def stage_seconds(workdir: Path) -> dict[str, float]:
  """Seconds of each stage of a run, over all the processes it took, in the order of the stages.

  Raises:
    BadInputError: if the run recorded none.
  """
  seconds = clock.read_seconds(workdir)
  if not seconds:
    raise BadInputError(
      f'{workdir / clock.FILE} is missing, expected the workdir of a run of launch.pipeline'
    )
  return {stage: seconds[stage] for stage in COUNTED if stage in seconds}


def pipeline_case(workdir: Path) -> dict[str, Any]:
  """The case `pipeline` of the benchmark: a whole run, in seconds for each image that classifiers learn from.

  Raises:
    BadInputError: if the run is not finished.
  """
  for name in ('config.json', 'versions.json', 'results.json'):
    if not (workdir / name).exists():
      raise BadInputError(f'{workdir / name} is missing, expected the workdir of a finished run')
  seconds = stage_seconds(workdir)
  results = read_json(workdir / 'results.json')
  images = results['num_train']
  metrics = read_metrics(workdir / 'metrics.jsonl')
  waited = sum(sum(series.values()) for name, series in metrics.items() if name.endswith('/data_seconds'))
  total = sum(seconds.values())
  return {
    'name': 'pipeline',
    'images_per_sec': images / total,
    'ratio_vs_torch': None,
    'share_of_matmul_peak': None,
    'images': images,
    'seconds': total,
    'seconds_by_stage': seconds,
    'seconds_per_image': {stage: value / images for stage, value in seconds.items()},
    'seconds_waited_for_data': waited,
    'config': read_json(workdir / 'config.json')['data']['name'],
    'methods': sorted(results['methods']),
    'versions': read_json(workdir / 'versions.json'),
  }


def in_words(case: dict[str, Any]) -> str:
  """Lines for the terminal."""
  stages = case['seconds_by_stage']
  lines = [
    f'{case["images"]} training images, {case["seconds"]:.0f} s in all, {case["images_per_sec"]:.2f} images/s'
  ]
  lines += [
    f'  {name:10} {stages[name]:8.1f} s  {case["seconds_per_image"][name]:8.4f} s per image'
    for name in stages
  ]
  return '\n'.join([*lines, f'  of these, {case["seconds_waited_for_data"]:.1f} s waiting for batches'])
