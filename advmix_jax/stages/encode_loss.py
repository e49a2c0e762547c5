"""What Algorithm 1 makes small, and with which settings: the `encode.*` keys."""

import functools

from advmix_jax import encoding
from advmix_jax.encode_refill import Stopping
from advmix_jax.encoding import EncodeSettings
from advmix_jax.interop.vgg16_weights import read_vgg16
from advmix_jax.models import vgg16
from advmix_jax.models.discriminator import block_names
from advmix_jax.stages.experiment import Experiment
from advmix_jax.stages.networks import Networks, compute_dtype
from advmix_jax.types import PyTree


def encode_settings(networks: Networks) -> EncodeSettings:
  """Algorithm 1 as the `encode.*` keys have it."""
  e = networks.config.encode
  return EncodeSettings(
    num_steps=e.num_steps,
    learning_rate=e.learning_rate,
    final_learning_rate=e.final_learning_rate,
    pixel_weight=e.pixel_weight,
    feature_weight=e.feature_weight,
    mixing_weight=e.mixing_weight,
    layer_weights=tuple(zip(feature_layers(networks), e.layer_weights, strict=False)),
    schedule=e.schedule,
    mixing_share=e.mixing_share,
  )


def stopping(networks: Networks) -> Stopping:
  """When an image is finished early, as the `encode.*` keys have it."""
  e = networks.config.encode
  return Stopping(e.target_error, e.tolerance, e.patience)


def feature_layers(networks: Networks) -> tuple[str, ...]:
  """Layers whose activations are compared; none with `encode.features=pixel`."""
  config = networks.config.encode
  if config.features == 'pixel':
    return ()
  default = vgg16.PAPER_LAYERS if config.features == 'vgg16' else block_names(networks.encode_resolution)
  return tuple(config.feature_layers) or default


def features_function(networks: Networks) -> encoding.FeaturesFn:
  """`(parameters, images) -> {layer: activations}` of the features that `encode.features` names."""
  config, layers = networks.config.encode, feature_layers(networks)
  if config.features == 'pixel':
    return lambda params, images: {}
  if config.features == 'vgg16':
    dtype = compute_dtype(networks.config)
    return functools.partial(vgg16.vgg16_features, layers=layers, size=config.vgg16_resize, dtype=dtype)
  model = networks.discriminator_model

  def features_fn(params, images):
    activations: PyTree = model.apply({'params': params}, images, method='features')
    return {name: activations[name] for name in layers}

  return features_fn


def load_feature_params(experiment: Experiment) -> PyTree:
  """The parameters of `features_function`."""
  config = experiment.config.encode
  if config.features == 'pixel':
    return {}
  if config.features == 'vgg16':
    return read_vgg16(config.vgg16_weights, feature_layers(experiment), config.vgg16_convention)
  return experiment.load_discriminator()
