"""The fast and the matmul lowering against the native convolution: values, all derivatives, vmap."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ugclu_jax.models import CNN
from ugclu_jax.models.lowering import LOWERINGS, conv_general_dilated, fast_conv, winograd
from ugclu_jax.models.lowering.patches import spread_matmul

LAYOUT = ("NHWC", "HWIO", "NHWC")
CASES = [  # height, width, channels, features, kernel, strides, padding
    (6, 6, 2, 3, (3, 3), (1, 1), "SAME"),
    (7, 5, 2, 3, (3, 3), (2, 2), "SAME"),
    (6, 6, 2, 2, (2, 2), (2, 2), "SAME_LOWER"),
    (7, 6, 1, 2, (3, 2), (2, 1), "VALID"),
    (5, 7, 3, 2, (1, 1), (2, 3), "VALID"),
    (6, 7, 2, 3, (2, 3), (2, 3), "VALID"),  # patches that do not overlap, and a column that none covers
    (5, 5, 1, 2, (2, 2), (2, 2), ((1, 0), (0, 1))),
    (4, 4, 2, 2, (3, 3), (1, 2), ((2, 0), (0, 3))),
    (6, 6, 1, 2, (3, 3), (1, 1), ((-1, 1), (1, -2))),
    (7, 8, 2, 3, (5, 5), (3, 2), "SAME"),
    (4, 6, 64, 64, (3, 3), (1, 1), "SAME"),  # by Winograd's algorithm
    (6, 4, 64, 65, (3, 3), (1, 1), ((2, 1), (0, 1))),
    (5, 6, 64, 64, (3, 3), (1, 1), "SAME"),  # an odd side: not by it
    (4, 4, 16, 3, (3, 3), (1, 1), "SAME"),  # weight gradient as a product
    (4, 5, 16, 3, (3, 3), (2, 2), "SAME"),  # all of it as products
    (6, 5, 16, 2, (3, 2), (1, 3), ((-1, 2), (1, 0))),
    (4, 4, 2, 3, (1, 1), (1, 1), "VALID"),
]


def loop_convolution(image, kernel, strides, pads):
    """NumPy loops over every output pixel; pads are non-negative."""
    padded = np.pad(image, ((0, 0), *pads, (0, 0)))
    height, width = kernel.shape[:2]
    rows = (padded.shape[1] - height) // strides[0] + 1
    columns = (padded.shape[2] - width) // strides[1] + 1
    out = np.zeros((len(image), rows, columns, kernel.shape[3]))
    for b, y, x, o in np.ndindex(out.shape):
        window = padded[b, y * strides[0] : y * strides[0] + height, x * strides[1] : x * strides[1] + width]
        out[b, y, x, o] = np.sum(window * kernel[..., o])
    return out


def assert_near(ours, expected):
    """Relative to the largest entry: sums over hundreds of channels cancel."""
    np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-10 * max(1.0, np.abs(expected).max()))


def arrays(case, seed=0):
    height, width, channels, features, size, _, _ = case
    generator = np.random.default_rng(seed)
    shapes = (2, height, width, channels), (*size, channels, features)
    return tuple(generator.normal(size=shape) for shape in shapes)


@pytest.mark.parametrize("lowering", ["fast", "matmul"])
def test_against_numpy_loops(lowering):
    case = (5, 6, 2, 3, (3, 2), (2, 1), ((1, 0), (2, 1)))
    image, kernel = arrays(case)
    with jax.enable_x64(True):
        ours = conv_general_dilated(image, kernel, case[5], case[6], lowering=lowering)
    np.testing.assert_allclose(ours, loop_convolution(image, kernel, case[5], case[6]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_all_lowerings_have_the_same_value_and_derivatives(case):
    def everything(lowering, image, kernel, tangents):
        """Value, first derivatives by reverse and forward mode, second by forward and by reverse over reverse."""

        def convolution(primals):
            return conv_general_dilated(*primals, case[5], case[6], lowering=lowering)

        def energy(primals):  # cubic, so that second derivatives depend on both arguments
            return jnp.sum(convolution(primals) ** 3)

        def along(primals):
            products = jax.tree.map(
                lambda gradient, tangent: jnp.vdot(gradient, tangent), jax.grad(energy)(primals), tangents
            )
            return sum(products)

        primals = image, kernel
        return {
            "value and forward": jax.jvp(convolution, (primals,), (tangents,)),
            "reverse": jax.grad(energy)(primals),
            "forward over reverse": jax.jvp(jax.grad(energy), (primals,), (tangents,))[1],
            "reverse over reverse": jax.grad(along)(primals),
        }

    with jax.enable_x64(True):
        run = jax.jit(
            lambda *operands: [everything(lowering, *operands) for lowering in LOWERINGS[1:]],
        )
        *ours, native = run(*arrays(case), arrays(case, seed=1))
    for way in ours:
        assert way["reverse"][0].dtype == np.float64
        jax.tree.map(lambda a, b: assert_near(a, b), way, native)
        assert_near(way["forward over reverse"][1], way["reverse over reverse"][1])


@pytest.mark.parametrize("lowering", ["fast", "matmul"])
@pytest.mark.parametrize("case", [CASES[1], CASES[10]], ids=str)
def test_vmap_over_weights(case, lowering):
    image, _ = arrays(case)
    kernels = np.stack([arrays(case, seed)[1] for seed in range(3)])

    def energy(kernel, lowering):
        return jnp.sum(conv_general_dilated(image, kernel, case[5], case[6], lowering=lowering) ** 3)

    with jax.enable_x64(True):
        together = jax.jit(jax.vmap(jax.grad(functools.partial(energy, lowering=lowering))))(kernels)
        single = jax.jit(jax.grad(functools.partial(energy, lowering="native")))
        apart = np.stack([single(kernel) for kernel in kernels])
    assert_near(together, apart)


@pytest.mark.parametrize("lanes", [None, 2, 0], ids=["all at once", "by twos", "one by one"])
@pytest.mark.parametrize("case", [CASES[1], CASES[4], CASES[3], CASES[10], CASES[14]], ids=str)
def test_gradient_of_each_example(monkeypatch, case, lanes):
    """The Fisher information squares them; five, so that the last two do not fill a chunk."""
    kernel = arrays(case)[1]
    images = np.stack([arrays(case, seed)[0] for seed in range(5)])
    if lanes is not None:
        monkeypatch.setattr(fast_conv, "_images", lambda *size: lanes * images.shape[1])

    def energy(kernel, image, lowering):
        return jnp.sum(conv_general_dilated(image, kernel, case[5], case[6], lowering=lowering) ** 3)

    with jax.enable_x64(True):
        gradient = jax.grad(functools.partial(energy, lowering="fast"))
        together = jax.jit(lambda *a: jax.vmap(gradient, in_axes=(None, 0))(*a))(kernel, images)
        single = jax.jit(jax.grad(functools.partial(energy, lowering="native")))
        apart = np.stack([single(kernel, image) for image in images])
    assert_near(together, apart)


@pytest.mark.parametrize("padding", ["SAME", "VALID", 1, ((0, 1), (2, 0))])
def test_as_plugged_into_linen(padding):
    image, _ = arrays(CASES[1])
    settings = {"features": 3, "kernel_size": (3, 3), "strides": (2, 1), "padding": padding}
    ours = nn.Conv(**settings, conv_general_dilated=functools.partial(conv_general_dilated, lowering="matmul"))
    generator = np.random.default_rng(2)
    variables = {"params": {"kernel": generator.normal(size=(3, 3, 2, 3)), "bias": generator.normal(size=3)}}
    np.testing.assert_allclose(
        ours.apply(variables, image), nn.Conv(**settings).apply(variables, image), rtol=1e-4, atol=1e-4
    )


def test_vmap_over_images():
    """Examples of one kernel become one larger batch."""
    images = np.stack([arrays(CASES[1], seed)[0] for seed in range(3)])
    kernel = arrays(CASES[1])[1]
    with jax.enable_x64(True):
        run = functools.partial(conv_general_dilated, window_strides=(2, 2), padding="SAME", lowering="fast")
        together = jax.jit(jax.vmap(run, in_axes=(0, None)))(images, kernel)
        apart = np.stack([run(image, kernel) for image in images])
    assert_near(together, apart)


@pytest.mark.parametrize(
    ("strides", "channels"), [((1, 1), 64), ((2, 2), 16)], ids=["Winograd", "products of patches and of spread taps"]
)
def test_chunks_of_images_change_nothing(monkeypatch, strides, channels):
    """Seven images by twos, the last chunk filled up."""
    generator = np.random.default_rng(4)
    side = 4 // strides[0]
    shapes = ((7, 4, 4, channels), (3, 3, channels, channels), (7, side, side, channels))
    x, kernel, dy = (generator.normal(size=shape) for shape in shapes)

    def everything(x, kernel):
        y, back = jax.vjp(lambda x, k: conv_general_dilated(x, k, strides, "SAME", lowering="fast"), x, kernel)
        return y, back(jnp.asarray(dy))

    with jax.enable_x64(True):
        whole = jax.jit(everything)(x, kernel)
        for module in (fast_conv, winograd):
            monkeypatch.setattr(module, "_images", lambda *size: 2)
        in_parts = jax.jit(lambda *a: everything(*a))
        assert in_parts.lower(x, kernel).as_text().count("stablehlo.while") == 3
        parts = in_parts(x, kernel)
    jax.tree.map(assert_near, parts, whole)


@pytest.mark.parametrize(
    ("sides", "size", "dilation", "pads"),
    [
        ((3, 4), (3, 3), (2, 2), ((1, 2), (2, 1))),
        ((2, 3), (3, 2), (3, 1), ((0, 0), (0, 1))),
        ((3, 2), (1, 1), (2, 3), ((0, 1), (2, 0))),  # pixels that no tap reaches
        ((1, 2), (5, 4), (2, 4), ((4, 4), (3, 3))),
    ],
    ids=str,
)
def test_spread_taps_against_numpy_loops(sides, size, dilation, pads):
    generator = np.random.default_rng(6)
    image, kernel = generator.normal(size=(2, *sides, 3)), generator.normal(size=(*size, 3, 2))
    dilated = np.zeros((2, *((side - 1) * factor + 1 for side, factor in zip(sides, dilation, strict=True)), 3))
    dilated[:, :: dilation[0], :: dilation[1]] = image
    expected = loop_convolution(dilated, kernel, (1, 1), pads)
    with jax.enable_x64(True):
        ours = spread_matmul(jnp.asarray(image), jnp.asarray(kernel), pads, dilation, expected.shape[1:3], None)
    np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-12)


def test_auto_is_fast_on_cpu_and_native_elsewhere(monkeypatch):
    image, kernel = arrays(CASES[0])

    def primitives(lowering):
        def run(image, kernel):
            return conv_general_dilated(image, kernel, (1, 1), "SAME", lowering=lowering)

        return {equation.primitive.name for equation in jax.make_jaxpr(run)(image, kernel).eqns}

    for backend, lowering in (("cpu", "fast"), ("gpu", "native"), ("tpu", "native")):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        assert primitives("auto") == primitives(lowering)
    assert "fast_convolution" in primitives("fast")
    assert "conv_general_dilated" in primitives("native")
    assert "conv_general_dilated" not in primitives("matmul")


def test_no_native_convolution_in_the_gradient_of_the_bundled_cnn():
    module = CNN(num_classes=3, widths=(2, 2), lowering="matmul")
    images = jnp.ones((1, 8, 8, 1))
    variables = jax.eval_shape(lambda: module.init(jax.random.key(0), images, train=False))
    gradient = jax.grad(lambda values: module.apply(values, images, train=True).sum())
    assert "conv_general_dilated" not in str(jax.make_jaxpr(gradient)(variables))


def test_patches_that_do_not_overlap_need_no_slice_for_each_tap():
    """256 of them, in a transformer's 16x16 pixels, would take longer to compile than to run."""
    image, kernel = jnp.ones((1, 32, 32, 3)), jnp.ones((16, 16, 3, 2))
    run = functools.partial(conv_general_dilated, window_strides=(16, 16), padding="VALID", lowering="matmul")
    assert len(jax.make_jaxpr(run)(image, kernel).eqns) < 20


def test_kernel_larger_than_the_image_gives_an_empty_output():
    image, kernel = np.ones((2, 2, 5, 1), np.float32), np.ones((3, 3, 1, 4), np.float32)
    shapes = [conv_general_dilated(image, kernel, (1, 1), "VALID", lowering=way).shape for way in ("matmul", "native")]
    assert shapes == [(2, 0, 3, 4)] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lhs_dilation": (2, 1)}, r"lhs_dilation is \(2, 1\).*lowering='native'"),
        ({"rhs_dilation": (1, 2)}, r"rhs_dilation is \(1, 2\).*lowering='native'"),
        ({"feature_group_count": 2}, r"feature_group_count is 2.*lowering='native'"),
        ({"dimension_numbers": ("NCHW", "OIHW", "NCHW")}, "layout must be"),
        ({"lowering": "winograd"}, "lowering is 'winograd': it must be one of auto, fast, matmul, native"),
        ({"rhs": np.ones((3, 3, 4, 1), np.float32)}, "lhs has 2 channels and rhs takes 4"),
    ],
)
def test_refusals(arguments, message):
    defaults = {
        "lhs": np.ones((1, 4, 4, 2), np.float32),
        "rhs": np.ones((3, 3, 2, 2), np.float32),
        "lowering": "matmul",
    }
    with pytest.raises(ValueError, match=message):
        conv_general_dilated(**{**defaults, "window_strides": (1, 1), "padding": "SAME", **arguments})


def test_native_dilates_and_groups():
    image, kernel = np.ones((1, 6, 6, 2), np.float32), np.ones((3, 3, 1, 2), np.float32)
    extra = {"rhs_dilation": (2, 2), "feature_group_count": 2}
    ours = conv_general_dilated(image, kernel, (1, 1), "SAME", dimension_numbers=LAYOUT, lowering="native", **extra)
    theirs = lax.conv_general_dilated(image, kernel, (1, 1), "SAME", dimension_numbers=LAYOUT, **extra)
    np.testing.assert_array_equal(ours, theirs)


def test_gradients_of_a_network_in_a_scan(x64):
    """What a request does with them; smooth, because rounding flips a ReLU."""
    kernels = [arrays((4, 4, i, o, (3, 3), s, "SAME"))[1] * 0.2 for i, o, s in ((1, 64, 1), (64, 64, 1), (64, 3, 2))]
    images = np.random.default_rng(5).normal(size=(4, 2, 4, 4, 1))

    def loss(kernels, image, lowering):
        run = functools.partial(conv_general_dilated, padding="SAME", lowering=lowering)
        x = jnp.tanh(run(image, kernels[0], window_strides=(1, 1)))
        x = jnp.tanh(run(x, kernels[1], window_strides=(1, 1)))
        return jnp.sum(run(x, kernels[2], window_strides=(2, 2)) ** 2)

    def descend(lowering):
        def step(kernels, image):
            gradient = jax.grad(jax.checkpoint(functools.partial(loss, lowering=lowering)))(kernels, image)
            return jax.tree.map(lambda k, g: k - 1e-3 * g, kernels, gradient), None

        return jax.jit(lambda kernels: lax.scan(step, kernels, images)[0])(kernels)

    jax.tree.map(assert_near, descend("fast"), descend("native"))


def test_half_precision():
    image, kernel = (jnp.asarray(array, jnp.bfloat16) for array in arrays(CASES[10]))
    ours, native = (
        conv_general_dilated(image, kernel, (1, 1), "SAME", lowering=way).astype(jnp.float32)
        for way in ("fast", "native")
    )
    assert conv_general_dilated(image, kernel, (1, 1), "SAME", lowering="fast").dtype == jnp.bfloat16
    # 8 bits of mantissa, twice rounded, of sums whose terms are as large as the largest result.
    np.testing.assert_allclose(ours, native, atol=2**-6 * float(jnp.abs(native).max()))
