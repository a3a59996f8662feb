"""The frames of an express lane: byte for byte, in pieces, and bytes that are no frame."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reactor_run.protocol.express import (
    ABORT,
    ANSWER,
    ANSWER_DONE,
    ASK,
    BEGIN,
    BLOCKED,
    BODY,
    BUFFERED,
    BYTES,
    CANCEL,
    CREDIT_FOR_ANSWER,
    CREDIT_FOR_BODY,
    DONE,
    END,
    EXPRESS_MAX,
    FIN,
    GIVE_BACK,
    GONE,
    GRANT,
    INTERIM,
    MOVES,
    PART,
    RELAY,
    REQUEST,
    STORED,
    WITHDRAW,
    WITHDRAWN,
    WRITTEN,
    FrameError,
    pack_buffered,
    pack_count,
    pack_message,
    pack_number,
    pack_request,
    pack_stored,
    pack_written,
    read_answers,
    read_buffered,
    read_count,
    read_number,
    read_requests,
    read_stored,
    read_written,
    request_prefix,
)
from reactor_run.protocol.proxy import (
    PP2_TYPE_MIN_CUSTOM,
    PP2_TYPE_UNIQUE_ID,
    SIGNATURE,
    Endpoint,
    decode_v2,
)

CLIENT: Endpoint = ("192.0.2.7", 40001)
SERVER: Endpoint = ("192.0.2.1", 80)
EXCHANGE_MAX = (1 << 64) - 1

TO_REACTOR = [REQUEST, FIN, GONE, CANCEL, WITHDRAW, BODY, CREDIT_FOR_ANSWER, GRANT, RELAY]
TO_REACTOR += [BUFFERED]
TO_FRONT_END = [ANSWER_DONE, ANSWER, DONE, WITHDRAWN, BEGIN, ASK, BYTES, END, ABORT, INTERIM]
TO_FRONT_END += [CREDIT_FOR_BODY, BLOCKED, MOVES, WRITTEN, GIVE_BACK, PART, STORED]

exchanges = st.integers(0, EXCHANGE_MAX)
endpoints = st.sampled_from(
    [
        (CLIENT, SERVER),
        (("2001:db8::7", 40001), ("2001:db8::1", 443)),
        (("", None), ("/run/app.sock", None)),
        (None, None),
    ]
)
payloads = st.binary(max_size=50)


def request_frame(exchange, payload, ends=(CLIENT, SERVER)):
    return pack_request(request_prefix(*ends), exchange, len(payload)) + payload


def message_frame(exchange, kind, payload=b""):
    return pack_message(exchange, kind, len(payload)) + payload


# Byte for byte, as docs/lanes.md has them


def test_a_request_on_the_wire():
    assert (
        pack_request(request_prefix(CLIENT, SERVER), 0x0102, 5)
        == (
            SIGNATURE
            + b"\x21\x11\x00\x1e"  # PROXY, TCP over IPv4, 12 bytes of addresses + 18 of TLVs
            b"\xc0\x00\x02\x07\xc0\x00\x02\x01\x9c\x41\x00\x50"
            b"\x05\x00\x08\x00\x00\x00\x00\x00\x00\x01\x02"
            b"\xe0\x00\x04\x00\x00\x00\x05"
        )
    )


def test_the_kinds_are_numbered_without_gaps():
    assert list(range(0xE0, 0xEA)) == TO_REACTOR
    assert list(range(0xE0, 0xF1)) == TO_FRONT_END


@pytest.mark.parametrize(
    ("kind", "byte"),
    [
        (ANSWER_DONE, b"\xe0"),
        (ANSWER, b"\xe1"),
        (GONE, b"\xe2"),
        (BODY, b"\xe5"),
        (BYTES, b"\xe6"),
        (GIVE_BACK, b"\xee"),
        (PART, b"\xef"),
    ],
)
def test_any_other_message_on_the_wire(kind, byte):
    assert (
        pack_message(7, kind, 0x0300)
        == (
            SIGNATURE + b"\x20\x00\x00\x12"  # LOCAL, no addresses, 18 bytes of TLVs
            b"\x05\x00\x08\x00\x00\x00\x00\x00\x00\x00\x07" + byte + b"\x00\x04\x00\x00\x03\x00"
        )
    )


def test_a_count_on_the_wire():
    assert pack_count(7, CREDIT_FOR_BODY, 0x0300) == message_frame(
        7, CREDIT_FOR_BODY, b"\x00\x00\x03\x00"
    )


def test_a_number_on_the_wire():
    number = b"\x00\x00\x00\x00\x00\x00\x01\x02"
    assert pack_number(7, GRANT, 0x0102) == message_frame(7, GRANT, number)


@given(exchanges, endpoints)
def test_a_frame_is_a_valid_proxy_header(exchange, ends):
    frame = pack_request(request_prefix(*ends), exchange, 9)
    header = decode_v2(frame)
    assert header is not None
    assert header.size == len(frame)
    assert (header.source, header.destination) == ends
    assert header.tlvs == (
        (PP2_TYPE_UNIQUE_ID, exchange.to_bytes(8, "big")),
        (PP2_TYPE_MIN_CUSTOM, (9).to_bytes(4, "big")),
    )


def test_the_prefix_leads_to_the_addresses():
    """It is a PROXY header except for its length, which counts the two TLVs as well."""
    prefix = request_prefix(CLIENT, SERVER)
    frame = pack_request(prefix, 1, 0)
    assert frame.startswith(prefix)
    ((_, _, read, _),), _ = read_requests(frame)
    assert read == prefix


# Reading


@given(st.lists(st.tuples(exchanges, endpoints, payloads), max_size=6), st.data())
def test_requests_come_back_however_they_are_cut(requests, data):
    stream = b"".join(request_frame(number, payload, ends) for number, ends, payload in requests)
    cut = data.draw(st.integers(0, len(stream)))
    first, taken = read_requests(stream[:cut])
    assert taken <= cut
    second, rest = read_requests(stream[taken:])
    assert taken + rest == len(stream)
    assert first + second == [
        (number, REQUEST, request_prefix(*ends), payload) for number, ends, payload in requests
    ]


kinds = st.sampled_from(TO_FRONT_END)


@given(st.lists(st.tuples(exchanges, kinds, payloads), max_size=6), st.data())
def test_answers_come_back_however_they_are_cut(answers, data):
    stream = b"".join(message_frame(*answer) for answer in answers)
    cut = data.draw(st.integers(0, len(stream)))
    first, taken = read_answers(stream[:cut])
    assert taken <= cut
    second, rest = read_answers(stream[taken:])
    assert taken + rest == len(stream)
    assert first + second == answers


def test_every_proper_beginning_of_a_frame_is_incomplete():
    for frame, read in [
        (request_frame(3, b"payload"), read_requests),
        (message_frame(3, ANSWER, b"payload"), read_answers),
    ]:
        for cut in range(len(frame)):
            assert read(frame[:cut]) == ([], 0)
        assert read(frame)[1] == len(frame)


@given(exchanges, st.sampled_from(TO_REACTOR[1:]), payloads)
def test_other_messages_to_a_reactor_come_back(exchange, kind, payload):
    frame = message_frame(exchange, kind, payload)
    assert read_requests(frame) == ([(exchange, kind, frame[:16], payload)], len(frame))


@given(st.integers(0, (1 << 32) - 1))
def test_counts_come_back(count):
    ((_, _, payload),), _ = read_answers(pack_count(1, CREDIT_FOR_BODY, count))
    assert read_count(payload) == count


@given(st.integers(0, (1 << 64) - 1))
def test_numbers_come_back(number):
    ((_, _, payload),), _ = read_answers(pack_number(1, WRITTEN, number))
    assert read_number(payload) == number


@given(st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 32) - 1))
def test_buffers_come_back(buffer, size):
    ((_, kind, _, payload),), _ = read_requests(pack_buffered(1, buffer, size))
    assert (kind, read_buffered(payload)) == (BUFFERED, (buffer, size))


@given(st.sampled_from([ANSWER_DONE, ANSWER, BYTES]), st.integers(0, 99), st.integers(0, 1 << 20))
def test_stored_messages_come_back(kind, buffer, size):
    ((_, stored, payload),), _ = read_answers(pack_stored(1, kind, buffer, size))
    assert (stored, read_stored(payload)) == (STORED, (kind, buffer, size))
    for wrong in payload[:-1], payload + b"x", bytes([DONE]) + payload[1:]:
        with pytest.raises(FrameError):
            read_stored(wrong)


@given(st.integers(0, (1 << 64) - 1), st.binary(min_size=12, max_size=100))
def test_answers_that_were_written_come_back(size, head):
    ((_, kind, payload),), _ = read_answers(pack_written(1, ANSWER_DONE, size, head))
    assert (kind, read_written(payload)) == (ANSWER_DONE, (size, head))
    with pytest.raises(FrameError):
        read_written(payload[:19])


@given(payloads)
def test_payloads_of_another_size_are_no_numbers(payload):
    for read, size in (read_count, 4), (read_number, 8):
        if len(payload) != size:
            with pytest.raises(FrameError):
                read(payload)


@pytest.mark.parametrize("kind", [FIN, GONE, CANCEL, WITHDRAW, RELAY])
def test_the_clients_end_is_a_message_without_payload(kind):
    ((exchange, read, _, payload),), _ = read_requests(message_frame(EXCHANGE_MAX, kind))
    assert (exchange, read, payload) == (EXCHANGE_MAX, kind, b"")


@pytest.mark.parametrize("kind", TO_FRONT_END[len(TO_REACTOR) :])
def test_the_front_end_cannot_send_a_kind_of_the_reactor(kind):
    with pytest.raises(FrameError):
        read_requests(message_frame(1, kind))


def test_a_long_payload_is_read_and_one_beyond_the_bound_rejected():
    """A head may be longer than EXPRESS_MAX, and is never cut."""
    most = 1 << 26
    large = request_frame(1, b"x" * 2 * EXPRESS_MAX)
    messages, taken = read_requests(large)
    assert (len(messages), taken) == (1, len(large))
    largest = pack_request(request_prefix(CLIENT, SERVER), 1, most)
    assert read_requests(largest) == ([], 0)
    # It is rejected before it has arrived: a reader that waited would gather up to 4 GiB.
    with pytest.raises(FrameError, match=str(most + 1)):
        read_requests(pack_request(request_prefix(CLIENT, SERVER), 1, most + 1))


# Bytes that are no frame. The offsets are those of a LOCAL message.

WRONG = [
    pytest.param(0, b"G", id="signature"),
    pytest.param(11, b"\r", id="end of the signature"),
    pytest.param(12, b"\x22", id="command"),
    pytest.param(12, b"\x11", id="version"),
    pytest.param(14, b"\x00\x11", id="no room for the TLVs"),
    pytest.param(16, b"\x04", id="type of the first TLV"),
    pytest.param(17, b"\x00\x07", id="size of the first TLV"),
    pytest.param(27, b"\xdf", id="kind below all"),
    pytest.param(27, b"\xf1", id="kind above all"),
    pytest.param(28, b"\x00\x05", id="size of the second TLV"),
]


@pytest.mark.parametrize(("offset", "wrong"), WRONG)
@pytest.mark.parametrize("read", [read_requests, read_answers])
def test_bytes_that_are_no_frame_are_rejected(read, offset, wrong):
    good = message_frame(1, DONE)
    bad = good[:offset] + wrong + good[offset + len(wrong) :]
    with pytest.raises(FrameError):
        read(bad)
    # The messages before it are lost too: it is unknown where the bad frame ends.
    with pytest.raises(FrameError):
        read(good + bad)


def test_an_answer_has_neither_addresses_nor_more_tlvs():
    with pytest.raises(FrameError):
        read_answers(request_frame(1, b"payload"))
    longer = bytearray(message_frame(1, DONE))
    longer[15] += 3
    longer[16:16] = b"\x04\x00\x00"
    with pytest.raises(FrameError):
        read_answers(bytes(longer))


def test_a_request_may_have_other_tlvs_before_the_two():
    """A front end may tell more of the client. Those TLVs are part of the prefix."""
    noop = b"\x04\x00\x00"
    frame = bytearray(request_frame(9, b"payload"))
    frame[15] += len(noop)
    frame[28:28] = noop
    ((exchange, kind, prefix, payload),), taken = read_requests(bytes(frame))
    assert (exchange, kind, payload, taken) == (9, REQUEST, b"payload", len(frame))
    assert prefix.endswith(noop)


@given(st.binary(min_size=34, max_size=80))
def test_noise_is_rejected_or_incomplete(noise):
    for read in (read_requests, read_answers):
        with pytest.raises(FrameError):
            read(noise)
        with pytest.raises(FrameError):
            read(noise + message_frame(1, DONE))
