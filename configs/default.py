"""Every key of every experiment, with its unit, source and effect; other configs change a few lines.

"open" marks a point where the paper is silent or contradicts itself: the value is our choice.
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  c = ml_collections.ConfigDict()
  c.seed = 0  # Seeds everything but the split of the data and the test colours.
  c.stages = ('train_gan', 'encode', 'train', 'evaluate', 'report')

  # float32 | bfloat16: of convolutions and of what layers hand on. Parameters, optimiser states, latents,
  # styles, statistics, images, logits and losses are float32 in any case. On CPU bfloat16 brings nothing.
  c.precision = 'float32'
  # Backward passes through generator and discriminator compute each layer again instead of keeping what is
  # within it: less memory, more time.
  c.remat = False

  c.data = ml_collections.ConfigDict()
  c.data.name = 'digits'  # digits | mnist | rgb_digits | rgb_mnist | celeba | folder
  c.data.dir = ''  # Folder of the files, or a zip; '' looks under $ADVMIX_DATA_DIR.
  c.data.resolution = 16  # Pixels; a power of two from 8.
  c.data.sigma = 0.0  # Standard deviation of the training colours around their class mean (section 5.1).
  c.data.mean_colours = ()  # Ten (r, g, b) in [0, 1]; () = ten even hues, saturation 0.7, value 0.9 (open).
  # by_class: images to learn from are drawn evenly by class, test images in the proportions of the classes |
  # uniform: every image is as likely, whatever its class, so CelebA's attributes all have the same images.
  c.data.draw = 'by_class'
  c.data.num_train = 0  # Images the classifier learns from; 0 = all.
  # Images for choosing settings: held out of training, or, where the data has a validation part of its own,
  # so many of that (0 = all).
  c.data.num_validation = 140
  c.data.num_test = 0  # Test images; 0 = all.
  c.data.split_seed = 0  # Fixes the split and the test colours: the test set is the same for every seed.
  c.data.num_generator = 0  # Images the generator learns from, drawn as num_train; 0 = all training images.
  c.data.generator_classes = ()  # Share of each class in the generator's data (Table 1); () = as it is.
  c.data.generator_colours = ()  # rgb_mnist: its share of red, green, blue (Table 2); () = even.
  # celeba: what is told apart. Several names, a,b: every combination of them is a class.
  c.data.attribute = 'Smiling'
  c.data.crop = 'centre'  # celeba: centre (178 pixels) | face (128 around the face) | none (squeezed) (open).
  # folder: none (odd files are errors) | crop (middle square) | pad (black) | resize (squeezed). The last
  # three also take grey pictures among coloured ones, and put transparent ones on black.
  c.data.fit = 'none'
  c.data.cache_dir = ''  # Where decoded pictures are kept; '' = ~/.cache/advmix_jax/data.
  # Processes that decode; 0 = threads of this one; -1 = by their number and the cores.
  c.data.num_workers = -1

  c.generator = ml_collections.ConfigDict()
  # Folder of a generator made by launch.convert, or gan/ of another run: it is used as it is, whatever its
  # resolution, and the keys below do not count. '' = one is trained on the data.
  c.generator.path = ''
  c.generator.fmaps = (48, 32, 16)  # Feature maps at 4, 8, ... pixels (open).
  c.generator.latent_size = 32  # Size of z.
  c.generator.w_size = 32  # Size of one row of w. The paper's is 512.
  c.generator.mapping_layers = 4  # StyleGAN: 8.
  # Of its learning rate. At StyleGAN's 0.01 a training of minutes leaves the mapping about as it was drawn:
  # latents in one cloud. At 1 latents may shrink to few dimensions.
  c.generator.mapping_lr_multiplier = 0.01
  c.generator.total_kimg = 90.0  # Length of training in thousands of real images shown (open).
  c.generator.batch_size = 16  # In runs of minutes the number of updates counts most.
  # Images of a device whose gradients are taken at a time, 0 = all: less memory, the same numbers. From 4 on
  # that holds to the last statistic of the minibatch; below, the groups of its standard deviation shrink.
  c.generator.micro_batch = 0
  c.generator.learning_rate = 2e-3  # StyleGAN: 1e-3. Adam with beta1 0, beta2 0.99.
  c.generator.r1_gamma = 10.0
  c.generator.r1_interval = 8  # R1 every n-th step, n times as strong. StyleGAN 1: 1. StyleGAN 2: 16.
  c.generator.style_mixing_prob = 0.9
  c.generator.style_mixing_cut = 'sample'  # sample | batch (StyleGAN 1): who shares the cut.
  # Mixed samples take the second latent from this layer on; 0 = from any, as StyleGAN. At attack.mixing_level
  # the generator learns the very mixes that AdvMix makes of it; rows on one side of it stay entangled.
  c.generator.style_mixing_level = 0
  c.generator.ema_kimg = 5.0  # Half-life of the averaged generator. StyleGAN: 10.
  c.generator.sample_kimg = 20.0  # Sample and style-mixing grids are written this often.
  c.generator.architecture = 'stylegan1'  # stylegan1 | stylegan2 (R1 and path lengths in steps of their own).
  c.generator.path_length_weight = 2.0  # stylegan2: of path-length regularisation; 0 = none.
  # stylegan2: path-length regularisation takes a step after every so many, as many times as strong.
  c.generator.path_length_interval = 4
  c.generator.conditional = False  # Both networks are told the label; in training, fakes take the data's.
  # logistic (non-saturating, with R1) | wgan_gp (learning rate at most 2e-3) | relativistic (pairs of a real
  # and a generated image, with R1 and R2, r1_gamma 1 at 32 pixels; for data of which logistic drops classes).
  c.generator.loss = 'logistic'
  c.generator.adam = 'optax'  # optax | tensorflow: where epsilon stands; StyleGAN 1 is the latter.
  c.generator.skip_nonfinite = False  # Leaves out updates whose gradient is not finite, as StyleGAN 1.
  c.generator.mirror = False  # Real images are mirrored left to right with probability 1/2.
  c.generator.structure = 'fixed'  # fixed | linear: grows from initial_resolution, as StyleGAN 1.
  c.generator.initial_resolution = 8  # Pixels; a power of two from 4.
  c.generator.stable_kimg = 600.0  # With linear: every resolution is trained for as long ...
  c.generator.fading_kimg = 600.0  # ... before the next fades in over as long.
  c.generator.batch_sizes = ()  # While 4, 8, ... pixels are drawn; () = batch_size.
  c.generator.micro_batches = ()  # While 4, 8, ... pixels are drawn; () = micro_batch.
  c.generator.learning_rates = ()  # While 4, 8, ... pixels are drawn; () = learning_rate.

  c.encode = ml_collections.ConfigDict()
  c.encode.init = 'encoder'  # encoder: amortised start | mean: w_avg, as in Algorithm 1.
  c.encode.init_kimg = 10.0  # Generated images the amortised encoder learns from, and as many real ones.
  c.encode.init_batch_size = 32  # Generated images in a step, and as many real ones.
  c.encode.init_fmaps = (32, 48, 64)  # Its feature maps at full, half, ... resolution.
  c.encode.init_learning_rate = 2e-3
  c.encode.num_steps = 40  # N of Algorithm 1. Paper: 2000 from w_avg.
  # adam, as in the paper | whitened_adam: Adam in coordinates in which the loss is about as steep in every
  # direction (ours), with the cosine and a rate of 0.5.
  c.encode.rule = 'adam'
  c.encode.learning_rate = 0.05
  c.encode.final_learning_rate = 0.01  # From 3/4 of the steps on, as in the paper's listing.
  c.encode.schedule = 'step'  # step: two rates, as in the listing | cosine: from the first to the final.
  # An image is finished before its N steps where its mean squared pixel error, on [-1, 1], is as low as this;
  # 0 = none is.
  c.encode.target_error = 0.0
  # An image has settled when L_rec is nowhere below 1 - tolerance times its least value of patience steps
  # ago. It then passes to the final learning rate; where it settles again, it is finished. 0 = none settles.
  c.encode.tolerance = 0.0
  c.encode.patience = 10
  c.encode.features = 'discriminator'  # discriminator | vgg16 | pixel
  # Names of layers; () = all of the discriminator's; of vgg16 block1_conv2, block3_conv2, block4_conv2 as in
  # the paper's listing (open: its pseudo-code has blocks 1, 2, 3). With a file of the first two blocks give
  # ('block1_conv2', 'block2_conv2').
  c.encode.feature_layers = ()
  # Path of ImageNet weights: .npz, .safetensors, torch .pth or Keras .h5; needed by features=vgg16 only.
  c.encode.vgg16_weights = ''
  # auto | caffe | torchvision: the input they expect. auto goes by their names, where features.N.weight means
  # torchvision; for Caffe's weights under such names say caffe.
  c.encode.vgg16_convention = 'auto'
  # Side in pixels of the images that are compared; 0 = the generator's. Smaller ones cost less, and lose
  # nothing where the pictures have no more pixels.
  c.encode.resolution = 0
  # Side in pixels of what vgg16 sees, as in the paper's listing, resized bilinearly; 0 = native size.
  c.encode.vgg16_resize = 225
  c.encode.pixel_weight = 1.0  # alpha_0
  c.encode.feature_weight = 1.0  # alpha_i
  c.encode.mixing_weight = 0.2  # beta_i; 0 leaves L_mix out.
  # Share of the steps, the first ones, that descend L_mix too; the others descend L_rec alone, which L_mix
  # outweighs by far at the end. 1, as in the paper, = all.
  c.encode.mixing_share = 1.0
  # A factor of alpha_i and beta_i for each of the feature layers; () = 1 for all, as in the paper. With
  # vgg16 weights of the caffe convention inputs are on [0, 255], and so the mean square of activations on
  # photographs is about 6e4 after block1_conv2 and 2e5 after block2_conv2: the pixel term then counts for
  # nothing. (2e-5, 5e-6) bring these two layers near 1.
  c.encode.layer_weights = ()
  c.encode.batch_size = 128  # Images at work; one that is finished makes room for the next.
  c.encode.shard_size = 512  # Images per file written.

  c.attack = ml_collections.ConfigDict()
  c.attack.mixing_level = 4  # m: layers from here on do not carry the label (digits 4, 32 px 6).
  c.attack.epsilon = 0.03  # Radius of the l-infinity box around map(z), per coordinate of w.
  c.attack.step_size = 0.005
  c.attack.num_restarts = 3  # Nr in training. Paper: 5.
  c.attack.num_steps = 5  # K in training; 0 = the worst of Nr random mixes. Paper: 7.
  c.attack.update = 'sign'  # sign (listing) | gradient (pseudo-code) (open).
  c.attack.select = 'highest_loss'  # highest_loss | first_error, in training (open).
  c.attack.start_from = 'reconstruction'  # reconstruction | original, in training (open).
  # Steps of training over which the attack grows from a random mix: radius and step size from 0, and one by
  # one what the first restart competes with; 0 = it does not. Against the whole attack a fresh classifier may
  # learn nothing.
  c.attack.ramp_steps = 0
  c.attack.typical_delta = 0.0  # delta of Eq. 15; 0 = no bound on the norm of z, as in the experiments.

  c.train = ml_collections.ConfigDict()
  c.train.methods = ('nominal', 'mixup', 'cutout', 'cutmix', 'at', 'randmix', 'advmix')
  c.train.classifier = 'cnn'  # cnn (truncated VGG) | linear
  c.train.fmaps = (16, 16, 32, 32)  # Widths of the four convolutions (open).
  c.train.batch_size = 64
  # Images of a device that are attacked, and whose gradients are taken, at a time: less memory, the same
  # numbers. 0 = all.
  c.train.micro_batch = 0
  c.train.num_epochs = 15.0  # Paper: 5 on Colour-MNIST, 20 on CelebA.
  c.train.learning_rate = 1e-3  # Adam.
  # Seeds the classifiers alone: their parameters, the order of images, what is drawn in training; -1 = seed.
  c.train.seed = -1
  # Classifiers of each method, in one program: with train.seed, train.seed + 1, ... Results are their mean.
  c.train.num_seeds = 1
  c.train.ema_decay = 0.0  # Average of the parameters that is evaluated; 0 = the last parameters.

  c.mixup = ml_collections.ConfigDict({'alpha': 0.2})
  c.cutout = ml_collections.ConfigDict({'size': 8})  # Side of the square, in pixels.
  c.cutmix = ml_collections.ConfigDict({'alpha': 1.0})
  c.at = ml_collections.ConfigDict()
  c.at.epsilon = 0.1  # On [0, 1] pixels.
  c.at.num_steps = 7
  c.at.step_size = 2.5 * 0.1 / 7  # open
  # Steps of training over which radius and step size grow from 0, as in Gowal et al. 2018; 0 = they do not. A
  # small classifier may learn nothing at a large radius.
  c.at.ramp_steps = 0

  c.evaluate = ml_collections.ConfigDict()
  c.evaluate.split = 'test'  # test | validation: settings are chosen on validation, never on test colours.
  c.evaluate.num_restarts = 10
  c.evaluate.num_steps = 20
  c.evaluate.num_examples = 0  # Test images attacked, drawn by data.split_seed; 0 = all.
  c.evaluate.batch_size = 128
  c.evaluate.start_from = 'original'  # original | reconstruction (open).
  c.evaluate.select = 'first_error'  # first_error | highest_loss: of each restart (open).

  c.report = ml_collections.ConfigDict()
  c.report.num_examples = 8  # Columns of the picture grids.
  # Attacked images that the page's explorer has, at most; fewer where the page would get too large.
  c.report.explorer_examples = 200

  # Of the stage diagnose (docs/diagnostics.md). They change nothing else: a run may go on with other values.
  c.diagnose = ml_collections.ConfigDict()
  # Whose word is taken for what a mixed image shows. recoloured (digits and MNIST): a classifier trained on
  # training images in colours independent of the label | a method of the run | a folder of another run, or of
  # a classifier in it | auto: recoloured where that can be, else the first there is of advmix, randmix, ...
  c.diagnose.reference = 'auto'
  c.diagnose.reference_epochs = 15.0  # Of the recoloured reference.
  c.diagnose.num_images = 512  # Training images (at most half of them), and attacked images; drawn by seed.
  c.diagnose.num_draws = 4  # Random mixes of each.
  # The level that is suggested is the lowest from which on the reference agrees with itself as often as on
  # reconstructions (or, where that is less, on recoloured originals), less this share.
  c.diagnose.tolerance = 0.02
  c.diagnose.colour_distance = 0.1  # Colours as near as this, in RGB of [0, 1], count as reached.
  c.diagnose.methods = ('advmix', 'randmix', 'nominal')  # Whose classifiers are measured, if they are there.
  c.diagnose.num_attacked = 100  # Of the attacked images, for the attack's strength; drawn by seed.
  c.diagnose.restarts = (1, 2, 5, 10, 20)  # Nr, with K as in evaluate.
  c.diagnose.steps = (0, 1, 2, 5, 10, 20, 40)  # K, with Nr as in evaluate.
  # With Nr and K as in evaluate; steps are larger or smaller as the box is.
  c.diagnose.epsilons = (0.01, 0.03, 0.1, 0.3)

  c.checkpoint = ml_collections.ConfigDict()
  c.checkpoint.seconds = 30.0  # Time between checkpoints; a stage also saves at its end.
  c.checkpoint.keep = 2

  c.devices = 0  # Accelerators (or simulated devices) of the run, over all its processes; 0 = all there are.
  c.distributed = ml_collections.ConfigDict()  # Of runs with --distributed, see docs/distributed.md.
  # A process that is silent for so many seconds is lost, and the run ends; it can go on from its checkpoints.
  c.distributed.heartbeat_seconds = 15
  c.distributed.start_seconds = 120  # In which all processes must have been started.
  # That a process waits for another one at most, for instance while process 0 decodes pictures.
  c.distributed.wait_seconds = 21600
  # A step that takes more seconds ends the run, with the stacks of all threads and status 1; 0 = never.
  c.watchdog = ml_collections.ConfigDict()
  c.watchdog.first_step_seconds = 3600.0  # For the first step of a loop, and others in which jax compiles.
  c.watchdog.step_seconds = 600.0  # For every other step.

  c.log_every_steps = 50
  c.compile_cache = True  # Keep compiled programs in $JAX_COMPILATION_CACHE_DIR or ~/.cache/advmix_jax.
  return c
