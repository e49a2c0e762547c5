"""AdvMix (Gowal et al., CVPR 2020) in JAX: adversarial mixing with disentangled representations."""

__version__ = '0.1.0'
