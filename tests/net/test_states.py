"""What can happen to a connection while its process is frozen, and what each kind of socket becomes."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.net.peers import server, stream
from tests.support import capture, move, netns

from podferry.tcp import four_tuple, inventory, sequence, snapshot, state
from podferry_agent.connections import backend, find, repair, survey, taking, tcp_info
from podferry_agent.net import namespace, nft

pytestmark = pytest.mark.net


@contextlib.contextmanager
def client_socket(scene: move.Scene, number: int) -> Iterator[socket.socket]:
    """Connect to the pod from the client's namespace, as connection `number`."""

    def connect() -> socket.socket:
        made = socket.create_connection((netns.POD, 8000), timeout=20)
        made.sendall(server.HELLO.pack(number))
        assert made.recv(1) == b"!"
        return made

    with namespace.NetworkNamespace(scene.network.path(scene.network.client)) as where, where.run(connect) as made:
        yield made


def receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            break
        data += piece
    return data


def test_a_peer_that_finished_meanwhile_gets_its_answer(tmp_path: Path) -> None:
    with (
        move.Scene(tmp_path, "echo", 1) as scene,
        client_socket(scene, 100) as before,
        client_socket(scene, 101) as late,
    ):
        with capture.Capture(scene.network.client, tmp_path / "capture") as wire, scene.engines() as steps:
            steps.freeze()
            before.sendall(stream.piece(stream.origin(100), 5000))
            before.shutdown(socket.SHUT_WR)
            steps.prepare()
            late.sendall(stream.piece(stream.origin(101), 3000))
            late.shutdown(socket.SHUT_WR)
            steps.flush()
            steps.cut()
            steps.resume()
            audits = steps.wake()
            for one, number, size in ((before, 100, 5000), (late, 101, 3000)):
                assert stream.matches(stream.origin(number), receive(one, size))
                assert one.recv(1) == b"", "the server closes in turn"
        scene.report()
        assert sorted(one.state.name for one in audits) == ["CLOSE_WAIT", "CLOSE_WAIT", "ESTABLISHED"]
        found = capture.examine(wire.segments(), scene.dark)
        assert found.clean, found


@pytest.mark.parametrize("when", ["before collect", "before the cut"])
def test_a_peer_that_reset_meanwhile_harms_nobody(tmp_path: Path, when: str) -> None:
    with move.Scene(tmp_path, "echo", 2) as scene, client_socket(scene, 100) as doomed, scene.engines() as steps:

        def reset() -> None:
            doomed.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            doomed.close()

        steps.freeze()
        if when == "before collect":
            reset()
        steps.prepare()
        if when == "before the cut":
            reset()
        steps.flush()
        steps.cut()
        steps.resume()
        audits = steps.wake()
        scene.run(0.5)
        scene.report()
        assert [one.fate for one in audits].count("kept") == 2


def in_repair(scene: move.Scene) -> list[bool]:
    """Return for each TCP socket of the server that is no listener whether it is in repair mode."""
    found = []
    with find.Duplicator() as duplicator:
        for holder in find.holders(scene.containers(scene.first)):
            one = duplicator.duplicate(holder)
            assert one is not None
            with one:
                if find.is_tcp(one) and tcp_info.read(one).state != state.State.LISTEN:
                    found.append(repair.is_on(one))
    return found


def test_recovery_frees_a_connection_that_was_reset(tmp_path: Path) -> None:
    with move.Scene(tmp_path, "echo", 1) as scene, client_socket(scene, 100) as doomed:
        scene.first.freeze()
        with scene.backend.open(scene.source_path, move.NAME) as source:
            source.collect(scene.containers(scene.first))
            doomed.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            doomed.close()
        assert in_repair(scene) == [True, True]
        scene.backend.recover(scene.source_path, move.NAME, [scene.first.pid])
        assert in_repair(scene) == [False, False]
        scene.first.thaw()
        scene.run(0.3)
        scene.report()


@pytest.mark.parametrize("mode", ["source", "paced"])
def test_sent_and_never_acknowledged(tmp_path: Path, mode: str) -> None:
    with move.Scene(tmp_path, mode, 3) as scene, scene.engines() as steps:
        scene.run(0.2)
        with namespace.NetworkNamespace(scene.network.path(scene.network.client)) as where:
            deaf = where.run(nft.Nft)  # what the pod sends does not arrive any more, nor does any acknowledgement
            where.run(lambda: deaf.run("table inet deaf { chain in { type filter hook input priority 0; drop; }; }"))
            move.pause(0.05)
            steps.freeze()
            steps.prepare()
            if mode == "source":
                assert steps.flush(0.3), "nothing can be proven to have arrived"
            else:
                steps.flush(0.3)
            steps.cut()
            steps.resume()
            where.run(lambda: deaf.run("delete table inet deaf"))
            where.run(deaf.close)
        steps.wake()
        scene.run(2)
        scene.report()


def test_connections_within_the_pod_move_as_pairs(tmp_path: Path) -> None:
    with netns.Network() as network:
        words = ("tests.net.peers.pair", str(tmp_path / "memory"))
        first = move.Process(network.source, *words, "first")
        second = None
        try:
            assert first.line() == "ready"
            move.wait_for("stop", lambda: first.state() == "T")
            second = move.Process(network.target, *words, "second")
            assert second.line() == "ready"
            move.wait_for("stop", lambda: second.state() == "T")
            engines = backend.RepairBackend(network.path(network.switch))
            with (
                engines.open(network.path(network.source), move.NAME) as source,
                engines.open_target(network.path(network.target), move.NAME) as target,
            ):
                target.lock()
                target.find({"app": [second.pid]})
                assert source.collect({"app": [first.pid]}) == 2
                source.flush()
                assert source.drained(time.monotonic() + 1) == ()
                source.lock()
                for batch in source.batches():
                    target.rebuild(batch)
                target.verify()
                target.resume()
                second.thaw()
                audits = target.wake(time.monotonic() + 3)
            assert all(one.answered_seconds for one in audits)
            assert second.line() == "all there"
        finally:
            first.end()
            if second is not None:
                second.end()


def test_the_inventory_of_a_living_pod(tmp_path: Path) -> None:
    with move.Scene(tmp_path, "echo", 4) as scene:
        with scene.backend.open(scene.source_path, move.NAME) as source:
            found = source.inspect(scene.containers(scene.first))
        fates = [verdict.fate for verdict in found.verdicts]
        assert (fates.count(inventory.Fate.MOVES), fates.count(inventory.Fate.RESTORED)) == (4, 1)
        keys = {one.key for one in found.movable}
        assert {key.container for key in keys if key} == {"app"}
        assert {key.nspid for key in keys if key} == {2}, "the number in the container's own namespace"
        scene.report()


def test_what_cannot_move_is_told(tmp_path: Path) -> None:
    with move.Scene(tmp_path, "deaf", 1) as scene, client_socket(scene, 100) as urgent:
        urgent.send(b"!", socket.MSG_OOB)
        with scene.backend.open(scene.source_path, move.NAME) as source:

            def reasons() -> set[str]:
                return {one.reason for one in source.inspect(scene.containers(scene.first)).unmovable}

            move.wait_for("urgent data", lambda: reasons() == {"UrgentData"})
            (told,) = source.inspect(scene.containers(scene.first)).unmovable
            assert (told.container, told.pid) == ("app", scene.first.pid)
            assert told.process.startswith("python")
            source.hold()
            scene.first.freeze()
            assert source.collect(scene.containers(scene.first)) == 1
            assert [one.reason for one in source.unmovable] == ["UrgentData"]
            source.undo()
            scene.first.thaw()


def test_multipath_tcp_cannot_move() -> None:
    try:
        multipath = socket.socket(socket.AF_INET, socket.SOCK_STREAM, find.IPPROTO_MPTCP)
    except OSError:
        pytest.skip("this kernel has no Multipath TCP")
    with multipath, namespace.NetworkNamespace("/proc/self/ns/net") as where:
        seen = [observed for observed, _ in survey.survey(where, {"app": [os.getpid()]}) if observed.mptcp]
        assert [inventory.classify(one).reason for one in seen] == ["MPTCP"]


def test_the_clock_and_the_numbers_go_on(tmp_path: Path) -> None:
    with move.Scene(tmp_path, "echo", 1) as scene, scene.engines() as steps:
        scene.run(0.2)
        steps.freeze()
        steps.prepare()
        steps.flush()
        steps.source.lock()
        decoder = snapshot.Decoder()
        stream_of = b"".join(steps.source.early_batches()) + b"".join(steps.source.batches())
        early, late = decoder.feed(stream_of)
        assert isinstance(early, snapshot.Early)
        assert isinstance(late, snapshot.Late)
        image = snapshot.join(early, late)
        with find.Duplicator() as duplicator:
            holders = list(find.holders(scene.containers(scene.first)))
            (holder,) = [one for one in holders if one.key == early.head.key]
            connection = duplicator.duplicate(holder)
            assert connection is not None
            with connection:
                assert repair.get_seq(connection, repair.RECEIVE_QUEUE) == image.rcv_nxt
                assert repair.get_seq(connection, repair.SEND_QUEUE) == sequence.add(
                    image.snd_una, len(image.send_queue)
                )
                repair.select(connection, repair.NO_QUEUE)
                assert repair.get_window(connection) == image.window
                assert -2 <= sequence.distance(image.ts_val, repair.get_clock(connection)) < 5000
        steps.source.undo()
        scene.first.thaw()
        scene.run(0.3)
        scene.report()


def test_begin_leaves_other_states_alone() -> None:
    listener, fresh = socket.create_server(("127.0.0.1", 0)), socket.socket()
    with listener, fresh, socket.create_connection(listener.getsockname()) as client, listener.accept()[0] as accepted:
        client.shutdown(socket.SHUT_WR)
        accepted.shutdown(socket.SHUT_WR)
        move.wait_for("end", lambda: tcp_info.read(accepted).state not in inventory.MOVABLE_STATES)
        nowhere = four_tuple.FourTuple(bytes(4), 1, bytes(4), 1)
        assert taking.begin(accepted, snapshot.Key("app", 1, 1), nowhere, {}) is None
        assert tcp_info.read(fresh).state == state.State.CLOSE
