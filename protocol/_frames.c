/* Splits what has arrived on an express lane into messages, and packs the frames before them. It
 * also unmasks what the clients of WebSockets send (masking.py), and takes whole messages of theirs
 * (connection.py).
 *
 * express.py describes the frames, and is the only authority on them. This file reads what follows
 * that description and returns None for everything else: then express.py says what is wrong. The
 * tests compare the two (tests/fuzz/frames.py).
 *
 * A frame is a PROXY v2 header whose last two TLVs are these, then the payload:
 *
 *     05 0008 <exchange: 8 bytes>     PP2_TYPE_UNIQUE_ID
 *     <kind>  0004 <length: 4 bytes>  the payload's length
 *
 * Integers are big-endian. A payload becomes a bytes object of its own, and is copied only once:
 * the caller may reuse its memory as soon as a call returns.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

typedef unsigned char byte;

enum {
    SIGNATURE_SIZE = 12,
    HEADER_SIZE = 16, /* of a PROXY v2 header without addresses and TLVs */
    TLVS_SIZE = 18,   /* of the last two TLVs */
    FRAME_SIZE = HEADER_SIZE + TLVS_SIZE, /* of the shortest frame: LOCAL, without addresses */
    LOCAL = 0x20,                         /* version 2, command LOCAL */
    PROXY = 0x21,
    UNIQUE_ID = 5,
    KIND_FIRST = 0xE0, /* the first kind in both directions */
    REQUEST_LAST = 0xE9,
    ANSWER_LAST = 0xF0,
    PAYLOAD_MAX = 1 << 26,
};

static const byte SIGNATURE[SIGNATURE_SIZE] = "\r\n\r\n\0\r\nQUIT\n";

/* A frame, and where its parts are. */
typedef struct {
    const byte *start;
    const byte *tlvs; /* the last two */
    const byte *payload;
    uint64_t exchange;
    uint32_t size; /* bytes of the payload */
    byte kind;
} Frame;

/* Reading --------------------------------------------------------------------------------------- */

static inline uint16_t
read_16(const byte *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static inline uint32_t
read_32(const byte *at)
{
    return (uint32_t)read_16(at) << 16 | read_16(at + 2);
}

static inline uint64_t
read_64(const byte *at)
{
    return (uint64_t)read_32(at) << 32 | read_32(at + 4);
}

typedef enum {
    WHOLE,
    PARTIAL, /* more bytes must arrive */
    BROKEN,
} Found;

/* Read a frame at `at`. At least FRAME_SIZE bytes are there. `kind_last`: the last kind of this
 * direction. Only requests have addresses. */
static Found
read_frame(const byte *at, const byte *end, byte kind_last, Frame *frame)
{
    bool to_reactor = kind_last == REQUEST_LAST;
    if (memcmp(at, SIGNATURE, SIGNATURE_SIZE) != 0 ||
        (at[12] != LOCAL && !(to_reactor && at[12] == PROXY))) {
        return BROKEN;
    }
    uint16_t length = read_16(at + 14);
    if (length < TLVS_SIZE || (!to_reactor && (length != TLVS_SIZE || at[13] != 0))) {
        return BROKEN;
    }
    if (end - at < HEADER_SIZE + length) {
        return PARTIAL;
    }
    const byte *tlvs = at + HEADER_SIZE + length - TLVS_SIZE;
    if (tlvs[0] != UNIQUE_ID || read_16(tlvs + 1) != 8 || read_16(tlvs + 12) != 4 ||
        tlvs[11] < KIND_FIRST || tlvs[11] > kind_last) {
        return BROKEN;
    }
    frame->start = at;
    frame->tlvs = tlvs;
    frame->exchange = read_64(tlvs + 3);
    frame->kind = tlvs[11];
    frame->size = read_32(tlvs + 14);
    frame->payload = tlvs + TLVS_SIZE;
    if (frame->size > PAYLOAD_MAX) {
        return BROKEN;
    }
    return end - frame->payload < (Py_ssize_t)frame->size ? PARTIAL : WHOLE;
}

static inline PyObject *
bytes_of(const byte *start, Py_ssize_t size)
{
    return PyBytes_FromStringAndSize((const char *)start, size);
}

/* Return (exchange, kind, prefix, payload) to a reactor, else (exchange, kind, payload). */
static PyObject *
message_of(const Frame *frame, bool to_reactor)
{
    PyObject *message = PyTuple_New(to_reactor ? 4 : 3);
    if (message == NULL) {
        return NULL;
    }
    PyObject *parts[4] = {
        PyLong_FromUnsignedLongLong(frame->exchange),
        PyLong_FromLong(frame->kind),
    };
    int count = 2;
    if (to_reactor) {
        parts[count++] = bytes_of(frame->start, frame->tlvs - frame->start);
    }
    parts[count++] = bytes_of(frame->payload, frame->size);
    bool done = true;
    for (int i = 0; i < count; i++) {
        done = done && parts[i] != NULL;
        PyTuple_SET_ITEM(message, i, parts[i]); /* takes over the reference; NULL is allowed */
    }
    if (!done) {
        Py_CLEAR(message);
    }
    return message;
}

/* Return (messages, consumed), None, or NULL with an exception. */
static PyObject *
split(const byte *start, const byte *end, byte kind_last)
{
    PyObject *messages = PyList_New(0);
    if (messages == NULL) {
        return NULL;
    }
    const byte *at = start;
    Frame frame;
    while (end - at >= FRAME_SIZE) {
        Found found = read_frame(at, end, kind_last, &frame);
        if (found == BROKEN) {
            Py_DECREF(messages);
            Py_RETURN_NONE;
        }
        if (found == PARTIAL) {
            break;
        }
        PyObject *message = message_of(&frame, kind_last == REQUEST_LAST);
        if (message == NULL || PyList_Append(messages, message) < 0) {
            Py_XDECREF(message);
            Py_DECREF(messages);
            return NULL;
        }
        Py_DECREF(message);
        at = frame.payload + frame.size;
    }
    return Py_BuildValue("(Nn)", messages, (Py_ssize_t)(at - start));
}

static PyObject *
split_buffer(PyObject *data, byte kind_last)
{
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    const byte *start = view.buf;
    PyObject *result = split(start, start + view.len, kind_last);
    PyBuffer_Release(&view);
    return result;
}

static PyObject *
split_requests(PyObject *Py_UNUSED(module), PyObject *data)
{
    return split_buffer(data, REQUEST_LAST);
}

static PyObject *
split_answers(PyObject *Py_UNUSED(module), PyObject *data)
{
    return split_buffer(data, ANSWER_LAST);
}

/* Packing --------------------------------------------------------------------------------------- */

static inline void
write_32(byte *at, uint32_t value)
{
    for (int i = 0; i < 4; i++) {
        at[i] = (byte)(value >> (24 - 8 * i));
    }
}

static inline void
write_64(byte *at, uint64_t value)
{
    write_32(at, (uint32_t)(value >> 32));
    write_32(at + 4, (uint32_t)value);
}

static void
write_tlvs(byte *at, uint64_t exchange, byte kind, uint32_t size)
{
    memcpy(at, "\x05\x00\x08", 3);
    write_64(at + 3, exchange);
    at[11] = kind;
    memcpy(at + 12, "\x00\x04", 2);
    write_32(at + 14, size);
}

/* Read an integer of at most `max`. */
static bool
read_int(PyObject *number, uint64_t max, uint64_t *value)
{
    *value = PyLong_AsUnsignedLongLong(number);
    if (*value == (uint64_t)-1 && PyErr_Occurred()) {
        return false;
    }
    if (*value > max) {
        PyErr_SetString(PyExc_OverflowError, "the number does not fit into a frame");
        return false;
    }
    return true;
}

static PyObject *
pack_request(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    uint64_t exchange, size;
    if (count != 3 || !PyBytes_CheckExact(args[0])) {
        PyErr_SetString(PyExc_TypeError, "pack_request takes prefix, exchange and size");
        return NULL;
    }
    if (!read_int(args[1], UINT64_MAX, &exchange) || !read_int(args[2], UINT32_MAX, &size)) {
        return NULL;
    }
    Py_ssize_t prefix = PyBytes_GET_SIZE(args[0]);
    PyObject *frame = PyBytes_FromStringAndSize(NULL, prefix + TLVS_SIZE);
    if (frame != NULL) {
        byte *at = (byte *)PyBytes_AS_STRING(frame);
        memcpy(at, PyBytes_AS_STRING(args[0]), (size_t)prefix);
        write_tlvs(at + prefix, exchange, KIND_FIRST, (uint32_t)size);
    }
    return frame;
}

static PyObject *
pack_message(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    uint64_t exchange, kind, size = 0;
    if (count < 2 || count > 3) {
        PyErr_SetString(PyExc_TypeError, "pack_message takes exchange, kind and size");
        return NULL;
    }
    if (!read_int(args[0], UINT64_MAX, &exchange) || !read_int(args[1], UINT8_MAX, &kind) ||
        (count == 3 && !read_int(args[2], UINT32_MAX, &size))) {
        return NULL;
    }
    PyObject *frame = PyBytes_FromStringAndSize(NULL, FRAME_SIZE);
    if (frame != NULL) {
        byte *at = (byte *)PyBytes_AS_STRING(frame);
        memcpy(at, SIGNATURE, SIGNATURE_SIZE);
        memcpy(at + SIGNATURE_SIZE, "\x20\x00\x00\x12", 4); /* LOCAL, no address, TLVS_SIZE */
        write_tlvs(at + HEADER_SIZE, exchange, (byte)kind, (uint32_t)size);
    }
    return frame;
}

/* WebSockets ------------------------------------------------------------------------------------- */

enum { MASK_SIZE = 4 };

/* Copy `size` bytes, with the mask applied or removed (RFC 6455 section 5.3). */
static void
copy_masked(byte *to, const byte *from, Py_ssize_t size, const byte *mask)
{
    uint64_t word, words;
    Py_ssize_t at = 0;
    memcpy(&words, mask, MASK_SIZE);
    memcpy((byte *)&words + MASK_SIZE, mask, MASK_SIZE);
    for (; size - at >= (Py_ssize_t)sizeof word; at += sizeof word) {
        memcpy(&word, from + at, sizeof word);
        word ^= words;
        memcpy(to + at, &word, sizeof word);
    }
    for (; at < size; at++) {
        to[at] = from[at] ^ mask[at % MASK_SIZE];
    }
}

static PyObject *
apply_mask(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 2 || !PyBytes_Check(args[1]) || PyBytes_GET_SIZE(args[1]) != MASK_SIZE) {
        PyErr_SetString(PyExc_TypeError, "apply_mask takes bytes, and a mask of four bytes");
        return NULL;
    }
    Py_buffer view;
    if (PyObject_GetBuffer(args[0], &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    PyObject *result = PyBytes_FromStringAndSize(NULL, view.len);
    if (result != NULL) {
        copy_masked((byte *)PyBytes_AS_STRING(result), view.buf, view.len,
                    (const byte *)PyBytes_AS_STRING(args[1]));
    }
    PyBuffer_Release(&view);
    return result;
}

/* Find the whole message at `at`: one masked frame of text or binary data, without extensions
 * (section 5.2). Return its end, or NULL if something else is there. */
static const byte *
find_message(const byte *at, const byte *end, uint64_t size_max, const byte **mask)
{
    enum { FIN_TEXT = 0x81, FIN_BINARY = 0x82, MASKED = 0x80, LENGTH_16 = 126, LENGTH_64 = 127 };
    if (end - at < 2 + MASK_SIZE || (at[0] != FIN_TEXT && at[0] != FIN_BINARY) ||
        !(at[1] & MASKED)) {
        return NULL;
    }
    uint64_t size = at[1] & ~MASKED;
    *mask = at + 2;
    if (size == LENGTH_16) {
        size = read_16(at + 2);
        *mask = at + 4;
        if (size < LENGTH_16) {
            return NULL; /* not the shortest form of the length */
        }
    }
    else if (size == LENGTH_64) {
        if (end - at < 10) {
            return NULL;
        }
        size = read_64(at + 2);
        *mask = at + 10;
        if (size <= UINT16_MAX) {
            return NULL;
        }
    }
    if (size > size_max || end - *mask < MASK_SIZE ||
        (uint64_t)(end - *mask - MASK_SIZE) < size) {
        return NULL;
    }
    return *mask + MASK_SIZE + size;
}

/* Return the message with this payload: text as str. NULL with UnicodeDecodeError: it is no text. */
static PyObject *
unmask_message(bool text, const byte *payload, Py_ssize_t size, const byte *mask)
{
    enum { SHORT = 1024 };
    if (text && size <= SHORT) {
        byte unmasked[SHORT];
        copy_masked(unmasked, payload, size, mask);
        return PyUnicode_DecodeUTF8((const char *)unmasked, size, NULL);
    }
    PyObject *message = PyBytes_FromStringAndSize(NULL, size);
    if (message != NULL) {
        copy_masked((byte *)PyBytes_AS_STRING(message), payload, size, mask);
        if (text) {
            PyObject *encoded = message;
            message = PyUnicode_DecodeUTF8(PyBytes_AS_STRING(encoded), size, NULL);
            Py_DECREF(encoded);
        }
    }
    return message;
}

static PyObject *
take_messages(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    enum { TEXT = 0x81 };
    uint64_t size_max, left;
    if (count != 4 || !PyBytes_Check(args[0]) || !PyList_Check(args[3])) {
        PyErr_SetString(PyExc_TypeError, "take_messages takes bytes, two integers and a list");
        return NULL;
    }
    if (!read_int(args[1], UINT64_MAX, &size_max) || !read_int(args[2], UINT32_MAX, &left)) {
        return NULL;
    }
    const byte *start = (const byte *)PyBytes_AS_STRING(args[0]);
    const byte *end = start + PyBytes_GET_SIZE(args[0]);
    const byte *at = start, *next, *mask;
    while (left-- > 0 && (next = find_message(at, end, size_max, &mask)) != NULL) {
        const byte *payload = mask + MASK_SIZE;
        PyObject *message = unmask_message(*at == TEXT, payload, next - payload, mask);
        if (message == NULL) {
            if (!PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
                return NULL;
            }
            PyErr_Clear(); /* connection.py says what follows */
            break;
        }
        int failed = PyList_Append(args[3], message);
        Py_DECREF(message);
        if (failed) {
            return NULL;
        }
        at = next;
    }
    return PyLong_FromSsize_t(at - start);
}

/* The module ------------------------------------------------------------------------------------ */

static PyMethodDef module_methods[] = {
    {"split_requests", split_requests, METH_O,
     "split_requests(data): the messages to a reactor and the bytes they took, or None."},
    {"split_answers", split_answers, METH_O,
     "split_answers(data): the messages to the front end and the bytes they took, or None."},
    {"pack_request", (PyCFunction)(void (*)(void))pack_request, METH_FASTCALL,
     "pack_request(prefix, exchange, size): the frame before a request."},
    {"pack_message", (PyCFunction)(void (*)(void))pack_message, METH_FASTCALL,
     "pack_message(exchange, kind, size=0): the frame before any other message."},
    {"apply_mask", (PyCFunction)(void (*)(void))apply_mask, METH_FASTCALL,
     "apply_mask(data, mask): data with the mask applied or removed."},
    {"take_messages", (PyCFunction)(void (*)(void))take_messages, METH_FASTCALL,
     "take_messages(data, size_max, count, messages): append whole messages of a WebSocket."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot module_slots[] = {
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, NULL},
};

static PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "reactor_run.protocol._frames",
    .m_doc = "Splits and packs frames of the express lane, and takes messages of WebSockets.",
    .m_methods = module_methods,
    .m_slots = module_slots,
};

PyMODINIT_FUNC
PyInit__frames(void)
{
    return PyModuleDef_Init(&module_def);
}
