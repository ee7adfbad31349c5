"""The real `pagesight-server serve`: from an empty store to SIGTERM under load."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import grpc
import numpy as np
import pytest
import trustme

from pagesight.v1 import classifier_pb2 as pb
from pagesight.v1 import classifier_pb2_grpc, gallery_pb2_grpc
from pagesight.v1 import gallery_pb2 as gpb
from pagesight_server.__main__ import main
from pagesight_server.gallery import Gallery
from pagesight_server.gallery.location import StoreLocation
from tests.support import WAIT_S
from tests.support.serving import result_of

START_S = 60.0
"""For loading the models on a busy machine."""
DRAIN_S = 60.0
"""More than the end takes on a busy machine, so that whoever waits for all of it is noticed."""


def screenshot(title: str, *, left: int, shade: int) -> bytes:
    pixels = np.full((200, 200, 3), 255, np.uint8)
    pixels[:60] = (shade, 80, 200)
    cv2.putText(pixels, title, (left, 130), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (0, 0, 0), 2)
    return bytes(cv2.imencode(".png", pixels)[1])


@contextmanager
def server(
    store: StoreLocation, bundles: Path, *more: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A serving process and its address; killed in the end if it still runs."""
    with subprocess.Popen(
        [
            *(sys.executable, "-W", "error", "-m", "pagesight_server", "serve", "--port", "0"),
            *("--json", "--store", str(store), "--bundles", str(bundles), *more),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PAGESIGHT_SERVER__DRAIN_SECONDS": str(DRAIN_S)},
    ) as process:
        try:
            assert process.stdout is not None
            listening = json.loads(process.stdout.readline())
            assert listening["host"] == "127.0.0.1"
            yield process, f"127.0.0.1:{listening['port']}"
        finally:
            process.kill()


async def enrol(channel: grpc.aio.Channel, *pictures: tuple[str, bytes]) -> gpb.EnrolResult:
    messages = [gpb.EnrolRequest(header=gpb.Change(author="mei"))]
    messages += [
        gpb.EnrolRequest(item=gpb.EnrolItem(image=data, label=label)) for label, data in pictures
    ]
    stub: Any = gallery_pb2_grpc.GalleryServiceStub(channel)
    answer: gpb.EnrolResult = await result_of(stub.Enrol(iter(messages), timeout=START_S))
    return answer


async def classify(channel: grpc.aio.Channel, data: bytes) -> pb.Classification:
    stub: Any = classifier_pb2_grpc.ClassifierServiceStub(channel)
    query = pb.Query(image=data, options=pb.Options(explain=True, top_k=1))
    answer: pb.ClassifyResponse = await stub.Classify(
        pb.ClassifyRequest(query=query), timeout=START_S
    )
    return answer.classification


async def test_a_page_enrolled_while_the_server_runs_is_found_and_sigterm_loses_no_reply(
    tmp_path: Path, bundles: Path
) -> None:
    store = tmp_path / "gallery.db"
    login = screenshot("Login", left=20, shade=0)
    with server(store, bundles) as (process, address):
        async with grpc.aio.insecure_channel(address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await classify(channel, login)
            assert error.value.code() is grpc.StatusCode.NOT_FOUND

            pages = [("login", login), ("balance", screenshot("Balance", left=20, shade=250))]
            assert (await enrol(channel, *pages)).revision == 1
            found = await classify(channel, screenshot("Login", left=24, shade=0))
            assert (found.label, found.revision) == ("login", 1)
            assert [line.query_text for line in found.candidates[0].matching_lines] == ["Login"]

            # SIGTERM with more in flight than is worked on at once.
            stub: Any = classifier_pb2_grpc.ClassifierServiceStub(channel)
            in_flight = 6
            stream = stub.ClassifyStream(timeout=START_S)
            for i in range(in_flight):
                await stream.write(
                    pb.ClassifyStreamRequest(request_id=str(i), query=pb.Query(image=login))
                )
            await stream.done_writing()
            first = await stream.read()
            process.send_signal(signal.SIGTERM)
            stopped_at_s = time.monotonic()
            replies = [first]
            while (reply := await stream.read()) is not grpc.aio.EOF:
                replies.append(reply)
            assert await stream.code() is grpc.StatusCode.OK
            # Read or refused, each has its reply.
            assert sorted(int(reply.request_id) for reply in replies) == list(range(in_flight))
            for reply in replies:
                if reply.WhichOneof("outcome") == "error":
                    assert reply.error.code == grpc.StatusCode.UNAVAILABLE.value[0]
                else:
                    assert reply.classification.label == "login"
        out, err = await asyncio.to_thread(process.communicate, timeout=DRAIN_S + WAIT_S)
        assert process.returncode == 0, err
        assert time.monotonic() - stopped_at_s < DRAIN_S
        assert out == ""
        assert "draining for at most 60 s" in err
        assert "audit: gallery 'default' enrol by 'anybody' (author 'mei') from ipv4:" in err
        # The picture that was enrolled came again.
        assert re.search(r"cache hits, screenshots: \d of \d", err), err
        assert re.search(r"cache hits, lines: \d+ of \d+", err), err
        assert "Traceback" not in err
        assert "Warning" not in err
    kept = Gallery(store)
    assert kept.snapshot().labels == ("balance", "login")
    assert [made.author for made in kept.history("default")] == ["mei"]
    kept.close()


async def test_answers_are_kept_for_review_up_to_the_last(tmp_path: Path, bundles: Path) -> None:
    store, config = tmp_path / "gallery.db", tmp_path / "pagesight.toml"
    config.write_text("[review]\nkeep = 10\nrandom_share = 1.0\n", "utf-8")
    login = screenshot("Login", left=20, shade=0)
    with server(store, bundles, "--config", str(config)) as (process, address):
        async with grpc.aio.insecure_channel(address) as channel:
            await enrol(channel, ("login", login))
            answer = await classify(channel, login)
        process.send_signal(signal.SIGTERM)
        _, err = await asyncio.to_thread(process.communicate, timeout=DRAIN_S + WAIT_S)
        assert process.returncode == 0, err
    opened = Gallery(store)
    (listed,) = opened.kept("default")
    assert (listed.answer.label, listed.answer.revision) == (answer.label, 1)
    assert opened.kept_image("default", listed.answer.image_id) == login
    opened.close()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--bundles", "none"], "no encoder bundle in none/encoder: make it with"),
        (["--port", "65536"], "setting server.port: "),
        (["--config", "none.toml"], "no configuration file none.toml"),
        (["--store", "none/gallery.db"], "cannot open the store none/gallery.db"),
        (
            ["--host", "256.1.1.1", "--port", "0", "--allow-plaintext"],
            "cannot listen on 256.1.1.1:0",
        ),
    ],
)
def test_a_server_that_cannot_start_says_why_in_one_line(
    tmp_path: Path,
    bundles: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    problem: str,
) -> None:
    defaults = ["--bundles", str(bundles), "--store", str(tmp_path / "gallery.db")]
    monkeypatch.setattr(sys, "argv", ["pagesight-server", "serve", *defaults, *options])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("pagesight-server: ")
    assert problem in line


def test_with_certificates_and_tokens_it_serves_those_who_can_show_them(
    tmp_path: Path, bundles: Path
) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    (tmp_path / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    digest = hashlib.sha256(b"s3cret").hexdigest()
    (tmp_path / "tokens.toml").write_text(
        f"[[token]]\nname = 'mei'\nsha256 = '{digest}'\nroles = ['gallery-write']\n", "utf-8"
    )
    config = tmp_path / "pagesight.toml"
    config.write_text(
        "[security]\n"
        f"cert = '{tmp_path}/cert.pem'\nkey = '{tmp_path}/key.pem'\n"
        f"tokens = '{tmp_path}/tokens.toml'\n",
        "utf-8",
    )
    (tmp_path / "shot.png").write_bytes(screenshot("Login", left=20, shade=0))
    with server(tmp_path / "gallery.db", bundles, "--config", str(config)) as (_, address):

        def pagesight(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-m", "pagesight", *arguments, "--address", address],
                env=os.environ | environment,
                capture_output=True,
                text=True,
                timeout=START_S,
            )

        shown = {"PAGESIGHT_TOKEN": "s3cret", "PAGESIGHT_TLS_CA": str(tmp_path / "ca.pem")}
        shot = str(tmp_path / "shot.png")
        enrolled = pagesight("gallery", "enrol", shot, "--label", "login", **shown)
        assert enrolled.returncode == 0, enrolled.stderr
        refused = pagesight("classify", shot, **shown)
        assert refused.returncode == 1
        assert "'mei' has the roles gallery-write" in refused.stderr
        unknown = pagesight("gallery", "list", **shown | {"PAGESIGHT_TOKEN": "guessed"})
        assert (unknown.returncode, unknown.stderr) == (1, "pagesight: no such token\n")
        assert pagesight("gallery", "list").returncode == 1  # in the clear


def test_beyond_this_machine_it_does_not_start_in_the_clear(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = str(tmp_path / "gallery.db")
    monkeypatch.setattr(
        sys, "argv", ["pagesight-server", "serve", "--host", "0.0.0.0", "--store", store]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "--allow-plaintext" in capsys.readouterr().err
