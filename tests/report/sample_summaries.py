"""Summaries that are made up: a full one, a hostile one, and the least there can be."""

import random
from dataclasses import replace

from lightning_fastdata.stalls import (
    DepthPoint,
    EpochFigures,
    Finding,
    FollowedAdvice,
    LaneSpan,
    LineShare,
    RankFigures,
    RunDetail,
    RunFacts,
    SettingChange,
    SlowSample,
    StallSummary,
    TimelineBucket,
    WorkerFigures,
)
from lightning_fastdata.trace import LoaderSetup, MachineFacts

MS = 10**6
HOSTILE = '<script>alert("x")</script>\'"&\u202e\udcff\x1b[31m' + "/deep" * 800


def a_plain_summary(stall_fraction: float | None = 0.01) -> StallSummary:
    """A run in which nothing was found, and nothing optional was measured."""
    wall_ns = 0 if stall_fraction is None else 10_000 * MS
    stall_ns = round(wall_ns * (stall_fraction or 0))
    return StallSummary(
        steps=100 if wall_ns else 0,
        steps_left_out=21,
        wall_ns=wall_ns,
        stall_fraction=stall_fraction,
        exposed_stall_ns=stall_ns,
        hidden_wait_ns=None,
        transfer_ns=0,
        compute_ns=wall_ns - stall_ns,
        other_host_ns=0,
        validation_ns=0,
        first_batch_ns=None,
        epoch_start_ns=(),
        wait_p50_ns=None,
        wait_p95_ns=None,
        wait_p99_ns=None,
        clock="host",
        device="cpu",
        samples_per_s=None,
        problem=None,
    )


def a_full_summary() -> StallSummary:
    """A run on four workers that waits for its data, with everything measured."""
    steps, wall_ns = 4_820, 602_500 * MS
    return replace(
        a_plain_summary(),
        steps=steps,
        steps_left_out=26,
        wall_ns=wall_ns,
        stall_fraction=0.384,
        exposed_stall_ns=round(wall_ns * 0.384),
        hidden_wait_ns=round(wall_ns * 0.07),
        transfer_ns=round(wall_ns * 0.021),
        compute_ns=wall_ns
        - round(wall_ns * 0.384)
        - round(wall_ns * 0.021)
        - round(wall_ns * 0.05),
        other_host_ns=round(wall_ns * 0.05),
        checkpoint_ns=round(wall_ns * 0.012),
        logging_ns=round(wall_ns * 0.018),
        validation_ns=48_000 * MS,
        first_batch_ns=3_210 * MS,
        epoch_start_ns=(810 * MS, 790 * MS, 835 * MS),
        wait_p50_ns=41 * MS,
        wait_p95_ns=130 * MS,
        wait_p99_ns=1_140 * MS,
        clock="cuda",
        device="cuda",
        samples_per_s=2_047.8,
        drained_fraction=0.31,
        worker_stage_fractions={"decode": 0.58, "transform": 0.22, "read": 0.11, "collate": 0.06},
        workers=_worker_figures(),
        worker_lines=_worker_lines(),
        host_lines=_host_lines(),
        slow_samples=_slow_samples(),
        findings=_findings(),
        followed=(
            FollowedAdvice(
                cause="too_few_workers",
                changes=(SettingChange(name="num_workers", now=2, then=4),),
                before_stall_fraction=0.612,
                predicted_stall_fraction=0.371,
                measured_stall_fraction=0.384,
            ),
        ),
        epochs=_epochs(),
        ranks=tuple(
            RankFigures(
                rank=rank,
                stall_fraction=0.384 if rank == 2 else 0.11 + rank / 100,
                host_wait_ns=(231_000 if rank == 2 else 66_000 + 1_000 * rank) * MS,
                straggled_fraction=0.87 if rank == 2 else 0.04,
            )
            for rank in range(4)
        ),
        run=_run_facts(),
        detail=_detail(),
        bad_samples=(
            "train: 88213 (/data/imagenet/train/n02105855/n02105855_2933.JPEG): truncated",
        ),
    )


def a_hostile_summary() -> StallSummary:
    """The full one with names in it that no page, terminal or attribute expects."""
    full = a_full_summary()
    assert full.run is not None
    assert full.run.machine is not None
    return replace(
        full,
        worker_stage_fractions={HOSTILE: 0.5},
        worker_lines=tuple(
            replace(line, file=HOSTILE, function=HOSTILE, text=HOSTILE)
            for line in full.worker_lines
        ),
        slow_samples=tuple(replace(one, path=HOSTILE, index=HOSTILE) for one in full.slow_samples),
        findings=tuple(
            replace(
                finding,
                evidence=(HOSTILE,),
                advice=HOSTILE,
                changes=(SettingChange(name=HOSTILE, now=HOSTILE, then=HOSTILE),),
                samples=(HOSTILE,),
            )
            for finding in full.findings
        ),
        run=replace(
            full.run,
            machine=replace(full.run.machine, device=HOSTILE, cpu=HOSTILE),
            settings=((HOSTILE, HOSTILE),),
        ),
        detail=replace(
            full.detail,
            spans=tuple(replace(span, name=HOSTILE) for span in full.detail.spans),
        ),
        workers=replace(_worker_figures(), why_no_change=HOSTILE),
        bad_samples=(HOSTILE,) * 50,
        problem=HOSTILE,
    )


def _worker_figures() -> WorkerFigures:
    return WorkerFigures(
        num_workers=4,
        batches=4_846,
        samples=1_240_576,
        busy_fraction=0.97,
        cpu_fraction=0.94,
        core_wait_fraction=0.02,
        sample_p50_ns=7_800_000,
        sample_p99_ns=31 * MS,
        read_bytes=4_210_000_000,
        cached_bytes=138_000_000_000,
        major_faults=12,
        slot_wait_fraction=0.003,
        transit_p50_ns=310_000,
        batch_bytes=38_535_168,
        ready_fraction=0.08,
    )


def _worker_lines() -> tuple[LineShare, ...]:
    lines = (
        ("train/my_data.py", 48, "__getitem__", 'image = Image.open(path).convert("RGB")', 0.61),
        ("train/my_data.py", 52, "__getitem__", "image = self.augment(image)", 0.22),
        ("train/augment.py", 17, "color_jitter", "hsv = rgb_to_hsv(image)", 0.09),
        ("train/my_data.py", 44, "__getitem__", "raw = open(path, 'rb').read()", 0.05),
    )
    return tuple(
        LineShare(
            file=f"/home/ada/project/{file}", line=line, function=name, text=text, fraction=share
        )
        for file, line, name, text, share in lines
    )


def _host_lines() -> tuple[LineShare, ...]:
    return (
        LineShare(
            file="/home/ada/project/train/log_images.py",
            line=33,
            function="on_train_batch_end",
            text="grid = make_grid(batch[0].cpu())",
            fraction=0.44,
            part="other",
        ),
        LineShare(
            file="/home/ada/.venv/lib/python3.12/site-packages/lightning/pytorch/loggers/wandb.py",
            line=412,
            function="log_metrics",
            text="self.experiment.log(dict(metrics))",
            fraction=0.21,
            part="logging",
        ),
    )


def _slow_samples() -> tuple[SlowSample, ...]:
    folder = "/data/imagenet/train/n02105855"
    return (
        SlowSample(
            index=1032,
            path=f"{folder}/n02105855_2933.JPEG",
            time_ns=1_290 * MS,
            times_the_median=165.4,
        ),
        SlowSample(
            index=88213,
            path=f"{folder}/n02105855_18.JPEG",
            time_ns=610 * MS,
            times_the_median=78.2,
        ),
        SlowSample(index=504_121, path=None, time_ns=318 * MS, times_the_median=40.8),
    )


def _findings() -> tuple[Finding, ...]:
    return (
        Finding(
            cause="too_few_workers",
            stall_fraction=0.297,
            evidence=(
                "4 workers were busy 97 % of the time, and 92 % of the batches were not ready "
                "when they were wanted.",
                "12 of 16 cores were free.",
                "A batch costs 1.99 s of worker time, and a step needs one every 77 ms.",
            ),
            advice="Raise num_workers from 4 to 11.",
            changes=(SettingChange(name="num_workers", now=4, then=11),),
            predicted_stall_fraction=0.031,
        ),
        Finding(
            cause="slow_samples",
            stall_fraction=0.061,
            evidence=("3 samples took 40 to 165 times as long as the median sample.",),
            advice="Look at samples 1032, 88213, 504121: re-encode or resize these files.",
            predicted_stall_fraction=0.326,
            samples=(1032, 88213, 504_121),
        ),
        Finding(
            cause="epoch_start",
            stall_fraction=0.018,
            evidence=("Each later epoch began with 0.81 s of waiting for new workers.",),
            advice="Keep the workers between epochs.",
            changes=(SettingChange(name="persistent_workers", now=False, then=True),),
            predicted_stall_fraction=0.37,
        ),
        Finding(
            cause="host_other",
            stall_fraction=0.011,
            evidence=("Logging took 1.8 % of the time.",),
            advice="Log every 50 steps.",
            changes=(SettingChange(name="log_every_n_steps", now=1, then=50),),
        ),
    )


def _epochs() -> tuple[EpochFigures, ...]:
    return tuple(
        EpochFigures(
            epoch=epoch,
            steps=1_210,
            stall_fraction=stall,
            start_ns=start_ns,
            wall_ns=wall_ns,
        )
        for epoch, (stall, start_ns, wall_ns) in enumerate(
            [
                (0.471, 3_210 * MS, 175_300 * MS),
                (0.362, 810 * MS, 145_900 * MS),
                (0.349, 790 * MS, 142_100 * MS),
                (0.341, 835 * MS, 139_200 * MS),
            ]
        )
    )


def _run_facts() -> RunFacts:
    return RunFacts(
        loaders=(
            LoaderSetup(
                name="",
                is_ours=False,
                engine="torch",
                num_workers=4,
                prefetch_batches=8,
                batch_size=256,
                pin_memory=True,
                persistent_workers=False,
                in_order=True,
                has_length=True,
                samples=309_760,
                dataset="MyPictures",
                start_method="fork",
            ),
        ),
        machine=MachineFacts(
            cores=16.0,
            local_ranks=4,
            memory_bytes=128 * 2**30,
            cpu="AMD EPYC 9354 32-Core Processor",
            device="NVIDIA H100 80GB HBM3",
            versions=(("torch", "2.14.1"), ("lightning", "2.6.6"), ("lightning_fastdata", "0.1.0")),
        ),
        settings=(
            ("max_epochs", 4),
            ("val_check_interval", 1.0),
            ("log_every_n_steps", 1),
            ("precision", "bf16-mixed"),
            ("strategy", "DDPStrategy"),
        ),
    )


def _detail() -> RunDetail:
    spans, piece_ns = _lanes()
    return RunDetail(timeline=_timeline(), spans=spans, depth=_depth(piece_ns), piece_ns=piece_ns)


def _timeline() -> tuple[TimelineBucket, ...]:
    rng, began_ns, buckets = random.Random(0), 0, []
    for place in range(512):
        is_cold, is_dip = place < 60, 300 <= place < 330
        wait = (92 if is_cold else 140 if is_dip else 40) * rng.uniform(0.7, 1.35)
        parts = [wait, 2.6, 68 * rng.uniform(0.97, 1.05), 2.5, 0.0, 0.0, 2.2]
        if place % 128 == 127:
            parts[4], parts[5] = 60.0, 22.0
        in_ns = [round(part * 9 * MS) for part in parts]
        buckets.append(
            TimelineBucket(
                steps=9,
                began_ns=began_ns,
                wait_ns=in_ns[0],
                transfer_ns=in_ns[1],
                compute_ns=in_ns[2],
                other_ns=in_ns[3],
                validation_ns=in_ns[4],
                checkpoint_ns=in_ns[5],
                logging_ns=in_ns[6],
            )
        )
        began_ns += sum(in_ns)
    return tuple(buckets)


def _lanes() -> tuple[tuple[LaneSpan, ...], int]:
    rng, spans, at_ns = random.Random(1), [], 0
    batches = 160
    for _ in range(batches):
        for name, ms in (
            ("wait", rng.uniform(5, 60)),
            ("transfer", 2.6),
            ("compute", rng.uniform(66, 70)),
            ("logging", 2.0),
        ):
            end_ns = at_ns + round(ms * MS)
            spans.append(
                LaneSpan(
                    lane="training process", kind="host", name=name, began_ns=at_ns, ended_ns=end_ns
                )
            )
            if name in ("compute", "transfer"):
                spans.append(
                    LaneSpan(
                        lane="device",
                        kind="device",
                        name=name,
                        began_ns=at_ns + MS,
                        ended_ns=end_ns + MS // 2,
                    )
                )
            at_ns = end_ns
    piece_ns = at_ns
    for worker in range(4):
        at_ns, batch = round(rng.uniform(0, 90) * MS), worker
        while at_ns < piece_ns:
            end_ns = min(piece_ns, at_ns + round(rng.uniform(360, 460) * MS))
            spans.append(
                LaneSpan(
                    lane=f"worker {worker}",
                    kind="worker",
                    name=f"batch {4_660 + batch}",
                    began_ns=at_ns,
                    ended_ns=end_ns,
                )
            )
            spans.append(
                LaneSpan(
                    lane=f"worker {worker}",
                    kind="worker",
                    name="decode",
                    began_ns=at_ns,
                    ended_ns=at_ns + (end_ns - at_ns) * 6 // 10,
                )
            )
            at_ns, batch = end_ns + round(rng.uniform(1, 9) * MS), batch + 4
    return tuple(spans), piece_ns


def _depth(piece_ns: int) -> tuple[DepthPoint, ...]:
    rng, ready, points = random.Random(2), 0, []
    for place in range(512):
        ready = max(0, min(8, ready + rng.choice((-1, -1, 0, 0, 1))))
        points.append(DepthPoint(at_ns=piece_ns * place // 512, ready=ready))
    return tuple(points)
