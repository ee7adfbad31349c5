"""What callers see on bad days, over real sockets; docs/faults.md lists all of them."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from pagesight.v1 import classifier_pb2 as pb
from pagesight.v1 import classifier_pb2_grpc, gallery_pb2_grpc
from pagesight.v1 import gallery_pb2 as gpb
from pagesight_server.common.arrays import Embedding, Pixels
from pagesight_server.config_sections import ServerConfig
from pagesight_server.gallery import Gallery, backup
from pagesight_server.inference.batcher import BatchConfig, Batcher
from tests.support import WAIT_S
from tests.support.manual import page
from tests.support.parts import FakeModels, mean_colour, unit
from tests.support.pictures import GREEN, RED, shade, solid
from tests.support.relay import Relay
from tests.support.serving import Serving, details, failed_to_write, request, result_of, serving
from tests.support.watching import BatchedModels

ROOT = Path(__file__).parents[2]
ALMOST_RED = (254, 0, 0)

SERVE = """
import asyncio, sys
from pathlib import Path
from tests.support.serving import serving
async def main():
    async with serving(Path(sys.argv[1])) as served:
        await served.registry.refresh()  # as `serve` does before it listens
        print(served.address, flush=True)
        await served.stopped
asyncio.run(main())
"""


async def read(stream: Any) -> pb.ClassifyStreamResponse:
    reply = await asyncio.wait_for(stream.read(), WAIT_S)
    assert isinstance(reply, pb.ClassifyStreamResponse), "the stream ended"
    return reply


def nothing_left(served: Serving) -> bool:
    return served.gate.waiting == 0 and served.models.active == 0


@pytest.mark.parametrize("tiny", [2_000, pytest.param(10_000, marks=pytest.mark.slow)])
async def test_thousands_of_tiny_messages_each_have_their_reply(tmp_path: Path, tiny: int) -> None:
    async with serving(tmp_path) as served:
        await served.enrol(("a", solid(RED)))
        stream = served.stream()

        async def send() -> None:
            for number in range(tiny):
                await stream.write(request(str(number), b"?"))
            await stream.done_writing()

        sending = asyncio.create_task(send())
        replies = [await read(stream) for _ in range(tiny)]
        await sending
        assert await stream.read() is grpc.aio.EOF
        assert await stream.code() is grpc.StatusCode.OK
        assert sorted(int(reply.request_id) for reply in replies) == list(range(tiny))
        assert {details(reply.error) for reply in replies} == {("IMAGE_UNUSABLE", None)}
        assert nothing_left(served)
        assert (await served.classify(solid(RED))).label == "a"


async def test_a_message_of_64_mib_is_refused_and_the_next_caller_answered(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        await served.enrol(("a", solid(RED)))
        huge = b"x" * (64 * 1024 * 1024)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await served.classify(huge)
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await served.enrol(("b", huge))
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        found = await served.classify(solid(RED))
        assert (found.label, found.revision) == ("a", 1)


async def test_a_client_whose_host_is_gone_is_let_go_without_a_word_from_it(
    tmp_path: Path,
) -> None:
    # Long enough that a client which is there answers in time on a machine that is busy.
    config = ServerConfig(port=0, keepalive_seconds=1.5)
    async with serving(tmp_path, config=config) as served:
        await served.enrol(("a", solid(RED)))
        served.models.hold(RED)
        with Relay(served.address) as relay:
            async with grpc.aio.insecure_channel(relay.address) as channel:
                stream = type(served.classifier)(channel).ClassifyStream(timeout=3 * WAIT_S)
                await stream.write(request("one", RED))
                await served.models.until_active(1)
                relay.fall_silent()
                await served.models.until_active(0)
                assert nothing_left(served)
                await served.models.release()
                assert (await served.classify(solid(RED))).label == "a"


class BatchBlindModels(BatchedModels):
    """An encoder session that fails while a green picture is in its batch."""

    def __init__(self) -> None:
        super().__init__()
        config = BatchConfig(max_batch=2, max_wait_ms=1000 * WAIT_S)
        self.batcher = Batcher[Pixels, Embedding](self._see, config, name="blind")

    def _see(self, pictures: Sequence[Pixels]) -> list[Embedding]:
        if any(mean_colour(pixels) == GREEN for pixels in pictures):
            raise RuntimeError("the secret of the session")
        return [unit(*(value + 1 for value in mean_colour(pixels))) for pixels in pictures]


async def test_a_run_that_raises_fails_the_messages_of_its_batch_and_no_other(
    tmp_path: Path,
) -> None:
    models = BatchBlindModels()
    async with serving(tmp_path, models=models) as served:
        await asyncio.gather(
            served.enrol(("a", solid(RED)), gallery="one"),
            served.enrol(("a", solid(ALMOST_RED)), gallery="two"),
        )
        stream = served.stream()
        for names, colours in (("ab", (RED, GREEN)), ("cd", (RED, ALMOST_RED))):
            for name, colour in zip(names, colours, strict=True):
                await stream.write(request(name, colour, gallery="one"))
            replies = {reply.request_id: reply for reply in [await read(stream) for _ in names]}
            assert set(replies) == set(names)
            if names == "ab":
                internal = grpc.StatusCode.INTERNAL.value[0]
                assert {reply.error.code for reply in replies.values()} == {internal}
                assert "secret" not in str(replies)
            else:
                assert {r.classification.label for r in replies.values()} == {"a"}
        await models.batcher.close()


async def test_a_stream_that_was_half_closed_has_all_its_replies(tmp_path: Path) -> None:
    async with serving(tmp_path, config=ServerConfig(port=0, max_active=4)) as served:
        await served.enrol(("a", solid(RED)))
        served.models.hold(RED)
        stream = served.stream()
        for number in range(8):
            await stream.write(request(str(number), RED))
        await stream.done_writing()
        await served.models.until_active(4)  # four more wait for their turn
        await served.models.release()
        replies = [await read(stream) for _ in range(8)]
        assert {reply.request_id for reply in replies} == set("01234567")
        assert {reply.classification.label for reply in replies} == {"a"}
        assert await stream.read() is grpc.aio.EOF
        assert await stream.code() is grpc.StatusCode.OK


class BlindModels(FakeModels):
    """Fails on green pictures in the encoder."""

    async def encode(self, pixels: Pixels) -> Embedding:
        """As it was, or a bug."""
        if tuple(pixels[0, 0].tolist()) == GREEN:
            raise RuntimeError("the secret of the encoder")
        return await super().encode(pixels)


async def test_an_encoder_that_raises_fails_its_own_message_and_is_told_to_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path, models=BlindModels()) as served:
        await served.enrol(("a", solid(RED)))
        stream = served.stream()
        with caplog.at_level(logging.ERROR):
            for number, colour in enumerate((RED, GREEN, RED)):
                await stream.write(request(str(number), colour))
            replies = {reply.request_id: reply for reply in [await read(stream) for _ in range(3)]}
        assert replies["1"].error.code == grpc.StatusCode.INTERNAL.value[0]
        assert "secret" not in str(replies["1"])
        assert "RuntimeError: the secret of the encoder" in caplog.text
        assert {replies[each].classification.label for each in "02"} == {"a"}
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await served.enrol(("b", solid(GREEN)))
        assert error.value.code() is grpc.StatusCode.INTERNAL
        assert served.store.snapshot().labels == ("a",)
        assert nothing_left(served)


async def test_a_gallery_swapped_under_load_gives_each_answer_from_one_revision(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as served:
        picture = (await served.enrol(("name 1", solid(RED)))).outcomes[0].image_id
        swapped = asyncio.Event()
        seen: set[int] = set()

        async def ask() -> None:
            while not swapped.is_set():
                known = acknowledged
                found = await served.classify(solid(RED))
                assert found.label == f"name {found.revision}"
                assert found.revision >= known, "an acknowledged change was not found"
                seen.add(found.revision)

        acknowledged = 1
        asking = [asyncio.create_task(ask()) for _ in range(4)]
        for revision in range(2, 22):
            change = gpb.RelabelRequest(image_ids=[picture], label=f"name {revision}")
            answer = await served.gallery.Relabel(change, timeout=WAIT_S)
            assert answer.revision == revision
            acknowledged = revision
            await served.classify(solid(RED))
        swapped.set()
        await asyncio.gather(*asking)
        assert len(seen) > 1
        assert nothing_left(served)


async def test_a_server_killed_under_load_has_all_it_acknowledged_when_it_is_back(
    tmp_path: Path,
) -> None:
    acknowledged: list[str] = []
    for life in range(2):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", SERVE, str(tmp_path)),
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        try:
            assert process.stdout is not None
            line = await asyncio.wait_for(process.stdout.readline(), WAIT_S)
            address = line.decode().strip()
            async with grpc.aio.insecure_channel(address) as channel:
                await _found(channel, acknowledged)
                teaching = [
                    asyncio.create_task(_teach(channel, life, one, acknowledged)) for one in (0, 1)
                ]
                wanted = 8 * (life + 1)
                async with asyncio.timeout(WAIT_S):
                    while len(acknowledged) < wanted:  # noqa: ASYNC110
                        await asyncio.sleep(0)
                process.kill()
                for end in await asyncio.gather(*teaching, return_exceptions=True):
                    assert isinstance(end, grpc.aio.AioRpcError), end
                    gone = end.code() is grpc.StatusCode.UNAVAILABLE
                    assert gone or failed_to_write(end), end
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
    store = Gallery(tmp_path / "gallery.db")
    labels = set(store.snapshot().labels)
    assert labels >= set(acknowledged)
    # At most what each of two writers had not been told yet, in two lives.
    assert len(labels) <= len(acknowledged) + 4
    assert backup.check(store) == []
    store.close()


async def _teach(channel: grpc.aio.Channel, life: int, writer: int, told: list[str]) -> None:
    """Enrols one page after the other until the server is gone."""
    stub: Any = gallery_pb2_grpc.GalleryServiceStub(channel)
    for number in range(10_000):
        label = f"{life} {writer} {number}"
        data = solid(shade(1 + number + 10_000 * writer + 20_000 * life))
        item = gpb.EnrolItem(image=data, label=label)
        messages = [gpb.EnrolRequest(header=gpb.Change()), gpb.EnrolRequest(item=item)]
        answer = await result_of(stub.Enrol(iter(messages), timeout=WAIT_S))
        assert answer.outcomes[0].added
        told.append(label)


async def _found(channel: grpc.aio.Channel, labels: list[str]) -> None:
    """Whether a server that has just come back knows what its predecessor acknowledged."""
    if not labels:
        return
    gallery: Any = gallery_pb2_grpc.GalleryServiceStub(channel)
    known = await gallery.GetLabels(gpb.GetLabelsRequest(), timeout=WAIT_S)
    assert {label.label for label in known.labels} >= set(labels)
    classifier: Any = classifier_pb2_grpc.ClassifierServiceStub(channel)
    query = pb.Query(image=solid(shade(1)))
    answer = await classifier.Classify(pb.ClassifyRequest(query=query), timeout=WAIT_S)
    assert answer.classification.closest_label == "0 0 0"


def test_every_fault_that_the_manual_lists_has_the_test_it_names() -> None:
    named = re.findall(r"`(tests/\S+\.py)::(test_\w+)`", page("faults.md"))
    assert len(named) >= 11
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text("utf-8"), f"{file} has no {test}"
