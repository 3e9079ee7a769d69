"""Stored logits in float16."""

import torch

from resnet_demo.evaluation.stored_predictions import compact_logits


def test_float16_keeps_the_order_of_close_logits():
    random = torch.Generator().manual_seed(0)
    logits = 12 + torch.rand(200, 10, generator=random)
    first = logits.topk(2).indices
    logits.scatter_(1, first[:, 1:], logits.gather(1, first[:, :1]) - 1e-5)
    compact = compact_logits(logits, first[:, 0])
    assert compact.dtype == torch.float16
    assert torch.equal(compact.argmax(1), logits.argmax(1))
    assert not torch.equal(logits.half().argmax(1), logits.argmax(1))  # without the shift


def test_logits_that_float16_would_change_stay_float32():
    best = [20.0, 19, 18, 17]
    logits = torch.tensor([[*best, 4.99999, 5.00001], [*best, 5.00001, 4.99999]])
    fifth = logits.topk(5).indices[:, 4]
    # In float16 the fifth and the sixth logit are equal, which changes top-5 for these labels.
    assert compact_logits(logits, fifth).dtype == torch.float32
    assert compact_logits(logits, fifth * 0).dtype == torch.float16
    assert compact_logits(logits * float("nan"), fifth).dtype == torch.float32
