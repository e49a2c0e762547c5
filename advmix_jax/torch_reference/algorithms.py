"""Algorithms 1 and 2, and the steps of both trainings, as the paper lists them.

Every image is synthesised whole. `wrap` is given each function that is differentiated and returns it as it
shall be called: unchanged, or compiled.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advmix_jax.torch_reference.networks import Discriminator, Generator

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]


class Attack:
  """Algorithm 2 on a batch.

  Attributes:
    mixing_level: m.
    epsilon: radius of the box around `map(z)_perp`.
    num_steps: K.
    step_size: of the ascent.
  """

  def __init__(
    self,
    generator: Generator,
    classifier: nn.Module,
    *,
    mixing_level: int,
    epsilon: float,
    num_steps: int,
    step_size: float,
    through_uint8: bool,
    wrap: Wrap,
  ):
    self.generator, self.mixing_level, self.epsilon = generator.requires_grad_(False), mixing_level, epsilon
    self.num_steps, self.step_size = num_steps, step_size
    classifier.requires_grad_(False)

    def evaluate(w: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
      """Losses `[B]`, whether misclassified `[B]`, images."""
      images = generator(w).clamp(-1, 1)
      seen = images + (quantised(images) - images).detach() if through_uint8 else images
      logits = classifier(seen)
      return F.cross_entropy(logits, labels, reduction='none'), logits.argmax(1) != labels, images

    self.evaluate = wrap(evaluate)

  def highest_loss(self, w: Tensor, labels: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """For training: images and losses, the highest of `dec(w)` and all points; restart r starts at `z[r]`."""
    w_par = w[:, : self.mixing_level]
    with torch.no_grad():
      best, _, images = self.evaluate(w, labels)
    for z_r in z:
      centre = self._start(z_r)
      w_perp = centre
      for _ in range(self.num_steps):
        w_perp, losses, _, found = self._step(w_par, w_perp, centre, labels)
        best, images = keep_better(best, images, losses, found)
      with torch.no_grad():
        losses, _, found = self.evaluate(torch.cat([w_par, w_perp], dim=1), labels)
      best, images = keep_better(best, images, losses, found)
    return images, best

  def first_error(self, w: Tensor, labels: Tensor, z: Tensor) -> Tensor:
    """For evaluation: which examples `[B]` are misclassified at some point; ends when all are."""
    w_par = w[:, : self.mixing_level]
    broken = torch.zeros(len(w), dtype=torch.bool)
    for z_r in z:
      centre = self._start(z_r)
      w_perp = centre
      for _ in range(self.num_steps):
        w_perp, _, wrong, _ = self._step(w_par, w_perp, centre, labels)
        broken |= wrong
        if broken.all():
          return broken
      with torch.no_grad():
        broken |= self.evaluate(torch.cat([w_par, w_perp], dim=1), labels)[1]
      if broken.all():
        return broken
    return broken

  def _start(self, z: Tensor) -> Tensor:
    return self.generator.map_z(z)[:, self.mixing_level :].contiguous()

  def _step(self, w_par: Tensor, w_perp: Tensor, centre: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    w_perp = w_perp.detach().requires_grad_()
    losses, wrong, images = self.evaluate(torch.cat([w_par, w_perp], dim=1), labels)
    (gradient,) = torch.autograd.grad(losses.sum(), w_perp)
    with torch.no_grad():
      moved = w_perp + self.step_size * gradient.sign()
      moved = moved.clamp(centre - self.epsilon, centre + self.epsilon)
    return moved, losses.detach(), wrong, images.detach()


def keep_better(best: Tensor, images: Tensor, losses: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
  better = losses > best
  return torch.where(better, losses, best), torch.where(better[:, None, None, None], found, images)


def quantised(images: Tensor) -> Tensor:
  """The images as uint8 and back."""
  return ((images + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1


class Encoder:
  """Algorithm 1 with the pixels, the discriminator's features and L_mix."""

  def __init__(
    self,
    generator: Generator,
    discriminator: Discriminator,
    *,
    mixing_level: int,
    learning_rate: Callable[[int], float],
    pixel_weight: float,
    feature_weight: float,
    mixing_weight: float,
    wrap: Wrap,
  ):
    self.learning_rate, self.generator = learning_rate, generator.requires_grad_(False)
    self.features = discriminator.requires_grad_(False).features

    def loss(w: Tensor, other: Tensor, images: Tensor, target: list[Tensor]) -> Tensor:
      generated = generator(w)
      pixels = pixel_weight * squared_error(generated, images)
      features = feature_weight * sum(map(squared_error, discriminator.features(generated), target))
      mixed = generator(torch.cat([w[:, :mixing_level], other[:, mixing_level:]], dim=1))
      mixing = mixing_weight * sum(map(squared_error, discriminator.features(mixed), target))
      return (pixels + features + mixing).sum()  # A sum, so that each image's gradient is its own.

    self.loss = wrap(loss)

  def __call__(self, images: Tensor, start: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Latents `[B, L, D]` and errors `[B]`; step n mixes with `map(z[n])`."""
    w = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([w], fused=True)
    with torch.no_grad():
      target = self.features(images)
    for n, z_n in enumerate(z):
      optimiser.param_groups[0]['lr'] = self.learning_rate(n)
      optimiser.zero_grad()
      self.loss(w, self.generator.map_z(z_n), images, target).backward()
      optimiser.step()
    with torch.no_grad():
      return w.detach(), squared_error(self.generator(w), images)


def squared_error(a: Tensor, b: Tensor) -> Tensor:
  return (a - b).square().flatten(1).mean(1)


class GanTraining:
  """A discriminator and a generator step of StyleGAN 1, with style mixing, R1 and an average."""

  def __init__(
    self,
    generator: Generator,
    discriminator: Discriminator,
    *,
    learning_rate: float,
    betas: tuple[float, float],
    r1_weight: float,
    style_mixing_prob: float,
    ema_decay: float,
    wrap: Wrap,
  ):
    self.generator, self.discriminator = generator.requires_grad_(True), discriminator.requires_grad_(True)
    self.average = copy.deepcopy(generator).requires_grad_(False)
    self.w_avg = torch.zeros_like(generator.map_z(torch.zeros(1, generator.latent_size))[0, 0]).detach()
    self.r1_weight, self.style_mixing_prob, self.ema_decay = r1_weight, style_mixing_prob, ema_decay
    self.g_optimiser, self.d_optimiser = (
      torch.optim.Adam(m.parameters(), lr=learning_rate, betas=betas, fused=True)
      for m in (generator, discriminator)
    )

    def generate(z: Tensor, keep: Tensor, noise: list[Tensor]) -> tuple[Tensor, Tensor]:
      w, other = generator.map_z(z).chunk(2)
      return generator(torch.where(keep, w, other), noise), w[:, 0].mean(0)

    def loss_of_fake(fake: Tensor) -> Tensor:
      return F.softplus(discriminator(fake)).mean()

    def discriminator_loss(fake: Tensor, images: Tensor) -> Tensor:
      return loss_of_fake(fake) + F.softplus(-discriminator(images)).mean()

    def generator_loss(z: Tensor, keep: Tensor, noise: list[Tensor]) -> tuple[Tensor, Tensor]:
      fake, mean = generate(z, keep, noise)
      return F.softplus(-discriminator(fake)).mean(), mean.detach()

    self.generate, self.discriminator_loss = wrap(generate), wrap(discriminator_loss)
    self.loss_of_fake, self.generator_loss = wrap(loss_of_fake), wrap(generator_loss)

  def draw(self, batch: int) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Two z for each image, which rows keep the first, and noise."""
    layers = self.generator.num_layers
    cut = torch.randint(1, layers, (batch, 1))
    cut = torch.where(torch.rand(batch, 1) < self.style_mixing_prob, cut, layers)
    noise = [torch.randn(batch, *n.shape[1:]) for n in self.generator.constant_noise()]
    return torch.randn(2 * batch, self.generator.latent_size), (torch.arange(layers) < cut)[:, :, None], noise

  def step(self, images: Tensor) -> tuple[Tensor, Tensor]:
    """Losses of the discriminator and of the generator."""
    with torch.no_grad():
      fake, mean = self.generate(*self.draw(len(images)))
      self.w_avg.lerp_(mean, 0.005)
    self.d_optimiser.zero_grad()
    if self.r1_weight:
      d_loss = self.loss_of_fake(fake) + self.penalised_loss_of_real(images)
    else:
      d_loss = self.discriminator_loss(fake, images)
    d_loss.backward()
    self.d_optimiser.step()

    with torch.no_grad():
      for average, current in zip(self.average.parameters(), self.generator.parameters(), strict=True):
        average.lerp_(current, 1 - self.ema_decay)
    self.g_optimiser.zero_grad()
    self.discriminator.requires_grad_(False)
    g_loss, mean = self.generator_loss(*self.draw(len(images)))
    g_loss.backward()
    self.discriminator.requires_grad_(True)
    self.g_optimiser.step()
    self.w_avg.lerp_(mean, 0.005)
    return d_loss.detach(), g_loss.detach()

  def penalised_loss_of_real(self, images: Tensor) -> Tensor:
    """With R1, of the same scores. Never compiled: torch.compile has no second derivatives."""
    images = images.detach().requires_grad_()
    scores = self.discriminator(images)
    (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return F.softplus(-scores).mean() + self.r1_weight * gradient.square().sum((1, 2, 3)).mean()


class ClassifierTraining:
  """A step on plain images."""

  def __init__(self, classifier: nn.Module, *, learning_rate: float, wrap: Wrap):
    self.optimiser = torch.optim.Adam(classifier.requires_grad_(True).parameters(), learning_rate, fused=True)
    self.loss = wrap(lambda images, labels: F.cross_entropy(classifier(images), labels))

  def step(self, images: Tensor, labels: Tensor) -> Tensor:
    self.optimiser.zero_grad()
    loss = self.loss(images, labels)
    loss.backward()
    self.optimiser.step()
    return loss.detach()
