"""The attack of training on all devices of a process."""

from typing import Any

from advmix_jax import attack, parallel
from advmix_jax.bench import measurement, reference_cases, timing


def attack_on_devices(networks: reference_cases.Networks, repeats: int) -> dict[str, Any]:
  """Figures of the attack 5x7 on one batch, shared evenly by the devices of this process."""
  reference = reference_cases.Reference(networks)
  case = reference.attack_train('cnn')
  params, generator, keys, batch = case.arguments
  settings = attack.LatentAttack(
    *(reference_cases.EPSILON, case.settings['restarts'], case.settings['steps']),
    attack.ascent_rule('sign', reference_cases.STEP_SIZE),
  )
  classify = reference.classifier_state().apply_fn

  def step(shared, given):
    keys, latents, labels = given

    def objective_fn(images):
      return attack.objective(classify(shared['classifier'], images), labels, 'highest_loss')

    return attack.latent_attack(settings, keys, reference.decoder, shared['generator'], latents, objective_fn)

  run_step = parallel.pmap_map(step)
  shared = parallel.replicate({'classifier': params, 'generator': generator})
  given = parallel.distribute((keys, batch.latents, batch.labels))
  for _ in ('compiles', 'warms up'):
    timing.seconds_of(lambda: run_step(shared, given))
  (seconds,) = timing.in_turns([lambda: run_step(shared, given)], repeats)
  return {'devices': parallel.num_devices(), **measurement.speed(seconds, case.images)}
