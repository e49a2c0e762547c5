"""Figure 4: AdvMix samples stay where the data are and keep their label, mixup samples do not."""

import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from advmix_jax import mixing, toy
from advmix_jax.stages.toy import run as draw_figure
from advmix_jax.types import BadInputError
from configs import toy as toy_config


@pytest.fixture
def config():
  return toy_config.get_config()


def test_decoder_is_cut_between_the_two_coordinates(config):
  decoder = toy.toy_decoder(config.toy)
  w = jnp.array([[[20.5], [3.0]], [[-0.5], [9.0]]])
  np.testing.assert_array_equal(decoder.decode(None, w)[:, 0, 0], [[3.0, 20.5], [9.0, -0.5]])
  mixed = decoder.decode(None, mixing.mix(w, w[::-1], decoder.mixing_level))
  np.testing.assert_array_equal(mixed[:, 0, 0], [[9.0, 20.5], [3.0, -0.5]])
  z = jnp.ones((5, decoder.latent_size))
  assert decoder.map_z(None, z).shape == (5, decoder.num_layers, decoder.w_size)
  assert decoder.w_avg(None).shape == (decoder.w_size,)


def test_data_have_the_moments_of_the_model(config):
  config.toy.num_points = 20_000
  points = toy.draw_data(jax.random.key(0), config.toy)
  x, labels = np.asarray(points.x), np.asarray(points.labels)
  assert x.shape == (20_000, 2)
  assert labels.mean() == pytest.approx(0.5, abs=0.02)
  noise = x[:, 1] - 20 * labels
  assert (noise.mean(), noise.std()) == (pytest.approx(0, abs=0.03), pytest.approx(1, abs=0.03))
  assert x[:, 0].mean() == pytest.approx(5, abs=0.15)
  assert x[:, 0].var() == pytest.approx(3 + 25, abs=0.6)
  assert np.corrcoef(x[:, 0], labels)[0, 1] == pytest.approx(0, abs=0.03)
  assert toy.agreement(points, config.toy)['near_a_mode_of_its_label'] == pytest.approx(
    1 - np.exp(-4.5), abs=0.005
  )


def test_advmix_recombines_coordinates_of_the_data_and_keeps_the_label(config):
  data = toy.draw_data(jax.random.key(0), config.toy)
  samples = toy.advmix_samples(jax.random.key(1), data, 300, config.toy)
  assert np.isin(samples.x, data.x).all()
  label_of = dict(zip(np.asarray(data.x[:, 1]).tolist(), np.asarray(data.labels).tolist(), strict=True))
  assert [label_of[x2] for x2 in np.asarray(samples.x[:, 1]).tolist()] == np.asarray(samples.labels).tolist()


def test_mixup_lies_between_its_sources_with_the_label_between(config):
  data = toy.Points(x=jnp.array([[0.0, 0.0], [10.0, 20.0]]), labels=jnp.array([0.0, 1.0]), w=None)
  samples = toy.mixup_samples(jax.random.key(0), data, 500, 1.0)
  np.testing.assert_allclose(samples.x[:, 0], 10 * samples.labels, atol=1e-5)
  np.testing.assert_allclose(samples.x[:, 1], 20 * samples.labels, atol=1e-5)
  with pytest.raises(ValueError, match='latents'):
    toy.advmix_samples(jax.random.key(0), data, 10, config.toy)


def test_agreement_counts_by_hand(config):
  x = jnp.array([[0.0, 2.9], [0.0, 3.1], [10.0, 20.0], [10.0, 20.0], [10.0, 20.0]])
  points = toy.Points(x=x, labels=jnp.array([0.0, 0.0, 1.0, 0.0, 0.5]), w=None)
  assert toy.agreement(points, config.toy) == {
    'near_a_mode': 0.8,
    'near_a_mode_of_its_label': 0.4,
    'num_points': 5,
  }


def test_run_writes_the_figure_and_the_same_results_each_time(config, tmp_path):
  for name in ('a', 'b'):
    draw_figure(types.SimpleNamespace(config=config, workdir=types.SimpleNamespace(path=tmp_path / name)))
  text = (tmp_path / 'a' / 'results.json').read_text()
  assert text == (tmp_path / 'b' / 'results.json').read_text()
  assert (tmp_path / 'a' / 'report' / 'toy.png').read_bytes()[:4] == b'\x89PNG'
  assert 'Figure 4' in (tmp_path / 'a' / 'report' / 'index.html').read_text()
  results = json.loads(text)
  shares = results['toy']
  assert shares['advmix']['near_a_mode_of_its_label'] > 0.95
  assert shares['mixup']['near_a_mode'] < shares['advmix']['near_a_mode'] - 0.1
  assert results['seed'] == 0


@pytest.mark.parametrize(('key', 'value'), [('num_points', 0), ('num_samples', -1), ('par_sd', 0.0)])
def test_bad_keys_are_named(config, key, value):
  config.toy[key] = value
  with pytest.raises(BadInputError, match=f'toy.{key} is {value}'):
    toy.check_config(config.toy)
