"""The stage report: what it picks, what it says, and that an unfinished run has a page too."""

import numpy as np

from advmix_jax.report.page import MethodRow
from advmix_jax.stages import report
from advmix_jax.stages.experiment import Experiment
from advmix_jax.stages.sections.scene import one_per_class
from advmix_jax.workdir import open_workdir
from configs import default


def test_one_per_class_takes_each_class_before_a_second_of_any():
  labels = np.array([2, 2, 0, 1, 0, 2])
  np.testing.assert_array_equal(one_per_class(labels, 4), [2, 3, 0, 4])
  np.testing.assert_array_equal(np.sort(one_per_class(labels, 9)), np.arange(6))


def test_summary_says_what_is_known():
  assert 'not finished' in report.summary((), 'test')[0]
  rows = (
    MethodRow('nominal', 'Nominal', clean=0.3, perturbed=0.05),
    MethodRow('advmix', 'AdvMix', clean=0.9, perturbed=0.8),
  )
  first, second = report.summary(rows, 'validation')
  assert '90.0 % of the validation images' in first and '30.0 %' in first
  assert 'AdvMix is the most robust' in second and '80.0 %' in second
  assert len(report.summary(rows[:1], 'test')) == 1


def test_unfinished_run_has_a_page_that_says_what_is_missing(tmp_path):
  config = default.get_config()
  config.data.num_train, config.data.num_test = 50, 20
  workdir = open_workdir(tmp_path, config)
  try:
    report.run(Experiment(workdir))
  finally:
    workdir.close()
  page = (tmp_path / 'report' / 'index.html').read_text()
  for stage in ('train_gan', 'encode', 'evaluate'):
    assert f'run the stage {stage} first' in page, stage
  assert 'Figure 6 of the paper' in page and 'Figure 2 of the paper' in page  # These need the data alone.
  assert 'not finished' in page
