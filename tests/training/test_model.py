"""The network against the reference figures."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

import engine
from augmentation import Augmentation
from engine import CHUNK_SCORES, Objective, Targets, Trainer, chunk_values, epoch_figures, video_auc
from model import BACKBONES, DISTANCES, INITS, NORMS, RESNETS, TwoStreamNet, contrastive_loss, dissimilarity
from tests.conftest import GOLDEN, take_step
from tests.golden import fill
from utils import constants
from utils.ranks import Ranks

REFERENCE = np.load(GOLDEN / "model.npz")
FACTS = json.loads((GOLDEN / "model.json").read_text())


def filled(img_dim: int) -> TwoStreamNet:
    model = TwoStreamNet(img_dim=img_dim, dropout=0.0)
    fill.fill_state_dict(model)
    return model


def relative(ours: torch.Tensor, reference: np.ndarray) -> float:
    return float(np.abs(ours.detach().numpy() - reference).max() / np.abs(reference).max())


def test_names_shapes_and_their_order_are_the_authors():
    ours = {name: list(tensor.shape) for name, tensor in TwoStreamNet().state_dict().items()}
    assert list(ours.items()) == list(FACTS["state_dict_img224"].items())  # optimiser states go by position


@pytest.mark.parametrize("img_dim", [64, 112, 224])
def test_evaluation_equals_the_reference_at_any_batch_size(img_dim):
    model = filled(img_dim).eval()
    video, audio = fill.video(2, img_dim), fill.audio(2)
    with torch.no_grad():
        out = model(video, audio)
        alone = model(video[1:], audio[1:])
    for name, values in out.items():
        assert relative(values, REFERENCE[f"eval{img_dim}_{name}"]) < 1e-4
        torch.testing.assert_close(values[1:], alone[name], rtol=1e-4, atol=1e-4)
    distance = dissimilarity(out["video_emb"], out["audio_emb"])
    assert relative(distance, REFERENCE[f"eval{img_dim}_distance"]) < 1e-4


@pytest.mark.parametrize("img_dim", [64, 112])
def test_training_steps_equal_the_reference(img_dim):
    facts = FACTS[f"train{img_dim}"]
    model = filled(img_dim).train()
    adam = torch.optim.Adam(model.parameters(), lr=facts["lr"], weight_decay=facts["weight_decay"])
    label = torch.tensor(facts["labels"])
    for step, expected in enumerate(facts["losses_contrastive_video_audio"]):
        out = model(fill.video(2, img_dim), fill.audio(2))
        terms = [
            contrastive_loss(out["video_emb"], out["audio_emb"], label, facts["margin"]),
            F.cross_entropy(out["video_logits"], label),
            F.cross_entropy(out["audio_logits"], label),
        ]
        if step == 0:
            assert [t.item() for t in terms] == pytest.approx(expected, rel=2e-3)
        else:
            # Rounding grows from step to step: at 64 px, step 2, float64 itself is 1.5e-3 from the float32
            # reference and this float32 graph 4e-3 with one convolution algorithm, 5e-3 with another.
            assert terms[0].item() == pytest.approx(
                expected[0], rel=1e-3 if (img_dim, step) != (64, 2) else 1e-2
            )
        adam.zero_grad()
        sum(terms).backward()
        if step == 0:
            norms = {name: p.grad.norm().item() for name, p in model.named_parameters()}
            # the bias of a layer before batch normalisation has no gradient but rounding
            real = {
                name: norm for name, norm in facts["grad_norm_step0"].items() if norm > 0.1 or "final" in name
            }
            assert {name: norms[name] for name in real} == pytest.approx(real, rel=1e-2)
            assert all(norm < 0.1 for name, norm in norms.items() if name not in real)
        adam.step()


def test_contrastive_loss_by_hand():
    video = torch.tensor([[3.0, 4.0], [0.3, 0.4], [3.0, 4.0]])
    audio = torch.zeros(3, 2)
    label = torch.tensor([1, 0, 0])  # real at 5, fake at 0.5, fake beyond the margin
    assert contrastive_loss(video, audio, label, 0.99).item() == pytest.approx((25 + 0.49**2 + 0) / 3)


@pytest.mark.parametrize("net", RESNETS)
def test_every_depth_trains_and_evaluates(net):
    model = TwoStreamNet(net, img_dim=32, final_dim=8)
    video, audio = torch.randn(2, 3, 30, 32, 32), torch.randn(2, 1, 13, 99)
    out = model.train()(video, audio)
    (
        contrastive_loss(out["video_emb"], out["audio_emb"], torch.tensor([0, 1]), 0.99)
        + out["video_logits"].sum()
    ).backward()
    assert model.netcnnlip.conv1.weight.grad.abs().sum() > 0
    with torch.no_grad():
        out = model.eval()(video, audio)
    assert {name: tuple(v.shape) for name, v in out.items()} == {
        "video_emb": (2, 8),
        "audio_emb": (2, 8),
        "video_logits": (2, 2),
        "audio_logits": (2, 2),
    }
    assert all(torch.isfinite(v).all() for v in out.values())


def test_initialisations():
    torch.manual_seed(0)
    video, audio = torch.randn(4, 3, 30, 32, 32), 10 * torch.randn(4, 1, 13, 99)
    spread = {}
    for init in ("authors", "torch"):
        model = TwoStreamNet(img_dim=32, init=init).train()
        spread[init] = model(video, audio)["video_logits"].std().item()
        assert model.netcnnaud[0].bias.abs().max() == 0
    assert spread["authors"] > 10 > spread["torch"]  # fan-out of a layer with two outputs: logits start huge
    with pytest.raises(ValueError, match="resnet17"):
        TwoStreamNet("resnet17")


@pytest.mark.parametrize("img_dim", [64])
def test_steps_of_the_trainer_equal_the_reference(img_dim, monkeypatch):
    facts = FACTS[f"train{img_dim}"]
    monkeypatch.setattr(
        engine, "normalize", lambda video: video
    )  # the reference's input is normalised already
    batch = {
        "video": fill.video(2, img_dim),
        "audio": fill.audio(2),
        "label": torch.tensor(facts["labels"]),
        "row": torch.arange(2),
    }
    with Ranks("cpu") as ranks:
        rates = {"lr": facts["lr"], "weight_decay": facts["weight_decay"]}
        trainer = Trainer(filled(img_dim).train(), ranks, Objective(facts["margin"]), **rates)
        for step, expected in enumerate(facts["losses_contrastive_video_audio"]):
            before = (
                {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
                if step == 0
                else {}
            )
            terms, distances = take_step(trainer, batch)
            terms = terms.tolist()
            if step == 0:
                assert terms == pytest.approx(expected, rel=2e-3)
                # Adam's first step moves each weight by the rate, against its gradient; the moments hold the
                # gradients' norms
                state = trainer.optimizer.state
                moved = {name: (before[name] - p.detach()) for name, p in trainer.model.named_parameters()}
                assert all(difference.abs().max() < 1.01 * facts["lr"] for difference in moved.values())
                for name, p in trainer.model.named_parameters():
                    norm = facts["grad_norm_step0"][name]
                    if norm > 0.1 or "final" in name:
                        gradient = state[p]["exp_avg"] / 0.1  # with the weight decay in it, which is small
                        assert gradient.norm().item() == pytest.approx(norm, rel=2e-2), name
                        large = gradient.abs() > 1e-2 * gradient.abs().max()
                        assert (torch.sign(moved[name])[large] == torch.sign(gradient)[large]).all(), name
            else:
                assert terms[0] == pytest.approx(expected[0], rel=1e-3 if step == 1 else 1e-2)
            assert len(distances) == 2 and (distances > 0).all()


def outputs(distance, video_logits, audio_logits) -> dict[str, torch.Tensor]:
    """What a network might return for chunks at these distances."""
    video_emb = torch.tensor([[d, 0.0] for d in distance])
    return {
        "video_emb": video_emb,
        "audio_emb": torch.zeros_like(video_emb),
        "video_logits": torch.tensor(video_logits),
        "audio_logits": torch.tensor(audio_logits),
    }


def test_losses_by_hand():
    third, half = math.log(3), math.log(2)  # p = 1/4 and 3/4, 1/2 and 1/2
    out = outputs([2.0, 0.5, 3.0], [[0, third], [0, third], [0.0, 0.0]], [[third, 0], [0.0, 0.0], [0, third]])
    label = torch.tensor([1, 0, 0])  # real, fake, fake
    contrastive = [
        4,
        0.7**2,
        0,
    ]  # at a margin of 1.2: a real one d^2, a fake one what it lacks of the margin, squared
    video = [-math.log(3 / 4), -math.log(1 / 4), half]
    audio = [-math.log(1 / 4), half, -math.log(1 / 4)]
    found = Objective(1.2)(out, Targets(label))
    assert found.tolist() == pytest.approx([sum(terms) / 3 for terms in (contrastive, video, audio)])
    weights = torch.tensor([3.0, 0.5])  # of fake and of real chunks
    weighted = [(0.5 * terms[0] + 3 * terms[1] + 3 * terms[2]) / 3 for terms in (contrastive, video, audio)]
    assert Objective(1.2, weights)(out, Targets(label)).tolist() == pytest.approx(weighted)


def test_chunk_values_by_hand():
    third = math.log(3)
    values = chunk_values(outputs([2.0, 0.5], [[third, 0], [0.0, 0.0]], [[0, third], [third, 0]]))
    assert CHUNK_SCORES == ("dissimilarity", "p_fake_video", "p_fake_audio")
    assert values.numpy() == pytest.approx(
        np.array([[2, 0.5], [0.75, 0.5], [0.25, 0.75]])
    )  # fake is column 0


def test_the_training_auc_counts_fake_above_real():
    videos = pd.DataFrame({"label": [1, 1, 0, 0], "mds": [1.0, 3.0, 2.0, 4.0]})
    assert video_auc(videos) == 0.75 and video_auc(videos.assign(mds=-videos.mds)) == 0.25
    assert math.isnan(video_auc(videos[:2]))


def test_figures_of_an_epoch_by_hand():
    index = pd.DataFrame({"video": ["r", "r", "f", "f", "x"], "label": [1, 1, 0, 0, 0], "track": 0})
    whole = {
        "sums": torch.tensor([2.0, 4.0, 6.0], dtype=torch.float64),
        "n_steps": 2,
        "position": 4,
        "seconds": 8.0,
        "wait_s": 2.0,
        "distances": torch.tensor([1.0, 3.0, 7.0, 9.0, -1.0]),
        "bad": {},
    }
    stats = epoch_figures(whole, index, torch.device("cpu"), Objective(1.0))
    assert (stats["loss"], stats["contrastive"], stats["video_ce"], stats["audio_ce"]) == (6, 1, 2, 3)
    assert (stats["avg_score_real"], stats["avg_score_fake"]) == (2, 8)  # the last chunk was not seen
    assert (stats["mean_mds_real"], stats["mean_mds_fake"], stats["train_auc"]) == (2, 8, 1)
    assert (stats["chunks_per_s"], stats["data_wait_share"], stats["n_bad_chunks"]) == (0.5, 0.25, 0)


def test_a_network_that_overfits_points_the_right_way(tiny):
    """Real distances below fake ones, both heads sure of the right class: the sign of everything that
    training does.
    """
    torch.manual_seed(0)
    label = torch.tensor([0, 1] * 4)
    # the picture of a fake is bright, its sound is low; noise on both
    video = (torch.rand(8, 30, 32, 32, 3) * 100 + 120 * (1 - label).view(-1, 1, 1, 1, 1)).to(torch.uint8)
    audio = torch.randn(8, 1, 13, 99) + 2.0 * label.view(-1, 1, 1, 1)
    batch = {"video": video, "audio": audio, "label": label, "row": torch.arange(8)}
    network = TwoStreamNet(img_dim=32, final_dim=16, dropout=0.0, init="torch")
    with Ranks("cpu") as ranks:
        trainer = Trainer(network, ranks, Objective(4.0), lr=3e-3, weight_decay=0)
        network.train()
        history = [take_step(trainer, batch)[0] for _ in range(60)]
    assert (history[-1] < history[0] / 2).all()
    out = engine.forward(network, batch, torch.device("cpu"), "off")
    distance, p_fake_video, p_fake_audio = chunk_values(out).detach().numpy()
    is_fake = label.numpy() == 0
    assert distance[is_fake].min() > distance[~is_fake].max() and distance[is_fake].min() > 2
    for p_fake in (p_fake_video, p_fake_audio):
        assert p_fake[is_fake].min() > 0.5 > p_fake[~is_fake].max()


def test_dropout_stands_before_each_classifier_in_training_alone(tiny):
    model = TwoStreamNet(img_dim=32, final_dim=400, dropout=0.75)
    seen = []
    for head in (model.final_fc_lip, model.final_fc_aud):
        head[1].register_forward_hook(lambda _, given, __: seen.append(given[0]))
    video, audio = torch.randn(4, 3, 30, 32, 32), torch.randn(4, 1, 13, 99)
    with torch.no_grad():
        model.train()(video, audio)
        model.eval()(video, audio)
    shares = [(given == 0).float().mean().item() for given in seen]
    assert shares[:2] == [pytest.approx(0.75, abs=0.05)] * 2 and shares[2:] == [0, 0]


def test_the_choices_of_flags_are_those_of_the_code():
    assert constants.NETS == tuple(BACKBONES)
    assert (constants.INITS, constants.DISTANCES, constants.NORMS) == (INITS, DISTANCES, NORMS)
    assert constants.PRECISIONS == tuple(engine.AMP)
    silent = Augmentation(constants.AUGMENTATIONS, 32)
    assert len(silent.video) + len(silent.audio) == len(constants.AUGMENTATIONS)
