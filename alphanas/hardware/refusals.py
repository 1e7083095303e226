"""Primitives that are never lowered, each with the reason. What a model computes from constants alone is folded, whatever it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def _because(reason: str, names: Iterable[str]) -> dict[str, str]:
    return dict.fromkeys(names, reason)


REFUSED: Mapping[str, str] = {
    **_because(
        "a decomposition or solution of matrices, which needs a library of linear algebra",
        ("cholesky", "eig", "eigh", "hessenberg", "householder_product", "lu", "qr", "schur", "svd", "triangular_solve"),
    ),
    **_because(
        "a decomposition or solution of matrices, which needs a library of linear algebra", ("tridiagonal", "tridiagonal_solve")
    ),
    **_because(
        "a special function of statistics, which no layer of a network is made of",
        ("bessel_i0e", "bessel_i1e", "digamma", "igamma", "igamma_grad_a", "igammac", "lgamma", "polygamma", "zeta"),
    ),
    **_because(
        "a special function of statistics, which no layer of a network is made of", ("regularized_incomplete_beta", "random_gamma")
    ),
    **_because("complex numbers have no rules", ("complex", "conj", "fft", "imag", "real")),
    **_because(
        "it draws random numbers, and inference has none",
        ("random_bits", "random_fold_in", "random_seed", "random_split", "random_unwrap", "random_wrap", "rng_bit_generator"),
    ),
    **_because("it draws random numbers, and inference has none", ("rng_uniform", "threefry2x32")),
    **_because(
        "it speaks to other devices, and a lowered model runs on one",
        ("all_gather", "all_to_all", "axis_index", "pmax", "pmin", "ppermute", "psum", "ragged_all_to_all"),
    ),
    **_because("it reads or writes a mutable reference", ("empty2", "get", "swap")),
    **_because("it calls back into Python", ("debug_callback", "debug_print", "io_callback", "pure_callback")),
    **_because("it orders side effects, and a lowered model has none", ("after_all", "create_token")),
    **_because(
        "the gradient of a pooling; only inference is lowered",
        ("select_and_gather_add", "select_and_scatter", "select_and_scatter_add"),
    ),
    **_because(
        "it reduces by a function of its own; sum, product, max, min, and, or and xor have rules", ("reduce", "reduce_window")
    ),
}
