"""Fused kernels of the package liger-kernel for the layers of a model on CUDA."""

from typing import Any

from lapwing.core.errors import UserError


def apply_liger(model: Any) -> None:
    """Replace the norms, gated feed-forward layers and rotary positions of a loaded model by fused kernels.

    They keep fewer activations for the backward pass and read the memory less often; results agree up to rounding. The
    weights, their names and the head stay as they are: log-probabilities of chosen tokens are not the cross-entropy
    that the package fuses. Rotary positions are replaced for all models of the same architecture in this process.

    Written against liger-kernel 0.8; it has not run here, for want of a CUDA device.

    Reference: Hsu et al. 2024, "Liger Kernel: Efficient Triton Kernels for LLM Training".
      https://arxiv.org/abs/2410.10989

    Args:
      model: a causal language model of transformers on a CUDA device; it is changed in place.

    Raises:
      UserError: the model is elsewhere, the package is not installed, or it has no kernels for the architecture.
    """
    device = next(model.parameters()).device
    if device.type != "cuda":
        raise UserError(f"model.liger needs a CUDA device, but the model is on '{device}'; leave model.liger out.")
    try:
        from liger_kernel.transformers import (  # pyright: ignore[reportMissingImports]
            _apply_liger_kernel_to_instance,
        )
        from liger_kernel.transformers.monkey_patch import (  # pyright: ignore[reportMissingImports]
            MODEL_TYPE_TO_APPLY_LIGER_FN,
        )
    except ImportError as error:
        raise UserError('model.liger needs a package that is not installed: pip install "lapwing[liger]".') from error
    if model.config.model_type not in MODEL_TYPE_TO_APPLY_LIGER_FN:
        raise UserError(
            f"liger-kernel has no kernels for models of type '{model.config.model_type}'; leave model.liger out."
        )
    _apply_liger_kernel_to_instance(model=model, cross_entropy=False, fused_linear_cross_entropy=False)
