"""The matmul lowering against the native convolution: values, derivatives of both orders and modes, vmap."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from ugclu_jax.models import CNN
from ugclu_jax.models.conv import conv_general_dilated

FAST_COMPILE = {"xla_backend_optimization_level": 0}  # each case runs once: compiling is the cost
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


def arrays(case, seed=0):
    height, width, channels, features, size, _, _ = case
    generator = np.random.default_rng(seed)
    shapes = (2, height, width, channels), (*size, channels, features)
    return tuple(generator.normal(size=shape) for shape in shapes)


def test_against_numpy_loops():
    case = (5, 6, 2, 3, (3, 2), (2, 1), ((1, 0), (2, 1)))
    image, kernel = arrays(case)
    with jax.enable_x64(True):
        ours = conv_general_dilated(image, kernel, case[5], case[6], lowering="matmul")
    np.testing.assert_allclose(ours, loop_convolution(image, kernel, case[5], case[6]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_matmul_equals_native_in_value_and_derivatives(case):
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
            lambda *operands: [everything(lowering, *operands) for lowering in ("matmul", "native")],
            compiler_options=FAST_COMPILE,
        )
        matmul, native = run(*arrays(case), arrays(case, seed=1))
    assert matmul["reverse"][0].dtype == np.float64
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10), matmul, native)
    np.testing.assert_allclose(
        matmul["forward over reverse"][1], matmul["reverse over reverse"][1], rtol=1e-10, atol=1e-10
    )


def test_vmap_over_weights():
    case = CASES[1]
    image, _ = arrays(case)
    kernels = np.stack([arrays(case, seed)[1] for seed in range(3)])

    def energy(kernel, lowering):
        return jnp.sum(conv_general_dilated(image, kernel, case[5], case[6], lowering=lowering) ** 3)

    with jax.enable_x64(True):
        together = jax.jit(jax.vmap(jax.grad(functools.partial(energy, lowering="matmul"))))(kernels)
        single = jax.jit(jax.grad(functools.partial(energy, lowering="native")))
        apart = np.stack([single(kernel) for kernel in kernels])
    np.testing.assert_allclose(together, apart, rtol=1e-11)


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


def test_auto_is_matmul_on_cpu_and_native_elsewhere(monkeypatch):
    image, kernel = arrays(CASES[0])

    def primitives(lowering):
        def run(image, kernel):
            return conv_general_dilated(image, kernel, (1, 1), "SAME", lowering=lowering)

        return {equation.primitive.name for equation in jax.make_jaxpr(run)(image, kernel).eqns}

    for backend, lowering in (("cpu", "matmul"), ("gpu", "native"), ("tpu", "native")):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        assert primitives("auto") == primitives(lowering)
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
        ({"lowering": "winograd"}, "lowering is 'winograd': it must be one of auto, matmul, native"),
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
