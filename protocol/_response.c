/* Encodes the common case of an app's response head in one call, and judges the fields of a WSGI app
 * beforehand.
 *
 * The encoder in Python (response.py) is the only authority on what an app may send. This file
 * encodes a head only if Python encodes it too, to the same bytes. For every other head
 * `encode_head` returns None, and then Python decides: heads that cannot be sent, and rare ones. So
 * no error is worded here. `copy_fields` stands in the same relation to reactor/wsgi/head.py.
 * tests/fuzz/encoding.py compares them.
 *
 * What is left to Python: fields that are no list or tuple of pairs of bytes (of str, where these are
 * asked for), more than 64 of them, names that are no tokens, values with control characters,
 * hop-by-hop fields, a Content-Length that is repeated or no number, and heads beyond HEAD_MAX.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <string.h>

typedef unsigned char byte;

enum {
    FIELDS_MAX = 64,    /* fields of a head */
    HEAD_MAX = 65536,   /* bytes of a head, as response.py has it */
    LENGTH_DIGITS = 18, /* digits of a Content-Length, as response.py has it */
    CHUNKED = -1,       /* framings, as body.py has them */
    UNTIL_CLOSE = -2,
};

static const char CODING_LINE[] = "\r\ntransfer-encoding: chunked";
static const char LENGTH_START[] = "\r\ncontent-length: ";

/* RFC 9110 §5.6.2: the lower case of a tchar, and 0 for all other characters. */
static const byte TOKEN[256] = {
    ['!'] = '!', ['#'] = '#', ['$'] = '$', ['%'] = '%', ['&'] = '&', ['\''] = '\'', ['*'] = '*',
    ['+'] = '+', ['-'] = '-', ['.'] = '.', ['^'] = '^', ['_'] = '_', ['`'] = '`', ['|'] = '|',
    ['~'] = '~',
    ['0'] = '0', ['1'] = '1', ['2'] = '2', ['3'] = '3', ['4'] = '4', ['5'] = '5', ['6'] = '6',
    ['7'] = '7', ['8'] = '8', ['9'] = '9',
    ['a'] = 'a', ['b'] = 'b', ['c'] = 'c', ['d'] = 'd', ['e'] = 'e', ['f'] = 'f', ['g'] = 'g',
    ['h'] = 'h', ['i'] = 'i', ['j'] = 'j', ['k'] = 'k', ['l'] = 'l', ['m'] = 'm', ['n'] = 'n',
    ['o'] = 'o', ['p'] = 'p', ['q'] = 'q', ['r'] = 'r', ['s'] = 's', ['t'] = 't', ['u'] = 'u',
    ['v'] = 'v', ['w'] = 'w', ['x'] = 'x', ['y'] = 'y', ['z'] = 'z',
    ['A'] = 'a', ['B'] = 'b', ['C'] = 'c', ['D'] = 'd', ['E'] = 'e', ['F'] = 'f', ['G'] = 'g',
    ['H'] = 'h', ['I'] = 'i', ['J'] = 'j', ['K'] = 'k', ['L'] = 'l', ['M'] = 'm', ['N'] = 'n',
    ['O'] = 'o', ['P'] = 'p', ['Q'] = 'q', ['R'] = 'r', ['S'] = 's', ['T'] = 't', ['U'] = 'u',
    ['V'] = 'v', ['W'] = 'w', ['X'] = 'x', ['Y'] = 'y', ['Z'] = 'z',
};

/* Bytes of an object that lives as long as the call. */
typedef struct {
    const byte *start;
    Py_ssize_t size;
} Text;

typedef struct {
    Text name;
    Text value;
} Field;

/* A head that is being encoded. */
typedef struct {
    Py_ssize_t count;
    Field fields[FIELDS_MAX];
    Text declared; /* the app's Content-Length; its `start` is NULL without one */
    bool has_date, has_server;
} Head;

/* The functions below return false if Python must decide. */

static bool
read_bytes(PyObject *object, Text *text)
{
    if (!PyBytes_CheckExact(object)) {
        return false;
    }
    *text = (Text){(const byte *)PyBytes_AS_STRING(object), PyBytes_GET_SIZE(object)};
    return true;
}

/* Read text that is latin-1, as PEP 3333 has it ("Unicode Issues"). */
static bool
read_latin(PyObject *object, Text *text)
{
    if (!PyUnicode_CheckExact(object) || PyUnicode_READY(object) < 0 ||
        PyUnicode_KIND(object) != PyUnicode_1BYTE_KIND) {
        return false;
    }
    *text = (Text){PyUnicode_1BYTE_DATA(object), PyUnicode_GET_LENGTH(object)};
    return true;
}

static bool
read_text(PyObject *object, bool is_latin, Text *text)
{
    return is_latin ? read_latin(object, text) : read_bytes(object, text);
}

/* RFC 9110 §5.5: whether a value holds no control character but HTAB. The loop has no exit, so that
 * the compiler can compare many bytes at once. */
static bool
is_text(Text text)
{
    byte bad = 0;
    for (Py_ssize_t i = 0; i < text.size; i++) {
        byte character = text.start[i];
        bad |= (byte)((character < ' ' && character != '\t') | (character == 0x7f));
    }
    return !bad;
}

static bool
is_token(Text text)
{
    for (Py_ssize_t i = 0; i < text.size; i++) {
        if (!TOKEN[text.start[i]]) {
            return false;
        }
    }
    return text.size > 0;
}

static bool
is_number(Text text)
{
    for (Py_ssize_t i = 0; i < text.size; i++) {
        if (text.start[i] < '0' || text.start[i] > '9') {
            return false;
        }
    }
    return text.size > 0 && text.size <= LENGTH_DIGITS;
}

static long long
number_of(Text digits)
{
    long long number = 0;
    for (Py_ssize_t i = 0; i < digits.size; i++) {
        number = number * 10 + (digits.start[i] - '0');
    }
    return number;
}

static Text
strip(Text text)
{
    while (text.size > 0 && (*text.start == ' ' || *text.start == '\t')) {
        text.start++;
        text.size--;
    }
    while (text.size > 0 &&
           (text.start[text.size - 1] == ' ' || text.start[text.size - 1] == '\t')) {
        text.size--;
    }
    return text;
}

/* Whether a name, which is a token, is `lower` in any case. */
static bool
is_name(Text name, const char *lower)
{
    for (Py_ssize_t i = 0; i < name.size; i++) {
        if (TOKEN[name.start[i]] != (byte)lower[i]) {
            return false;
        }
    }
    return true;
}

/* Take a field by its meaning. The size of a name tells which one it may be. */
static bool
take_field(Head *head, Field field)
{
    Text name = field.name;
    switch (name.size) {
    case 2:
        if (is_name(name, "te")) {
            return false;
        }
        break;
    case 4:
        head->has_date |= is_name(name, "date");
        break;
    case 6:
        head->has_server |= is_name(name, "server");
        break;
    case 7:
        if (is_name(name, "upgrade")) {
            return false;
        }
        break;
    case 10:
        if (is_name(name, "connection") || is_name(name, "keep-alive")) {
            return false;
        }
        break;
    case 14:
        if (is_name(name, "content-length")) {
            if (head->declared.start != NULL || !is_number(field.value)) {
                return false;
            }
            head->declared = field.value;
            return true; /* it comes last */
        }
        break;
    case 16:
        if (is_name(name, "proxy-connection")) {
            return false;
        }
        break;
    case 17:
        if (is_name(name, "transfer-encoding")) {
            return false;
        }
        break;
    }
    head->fields[head->count++] = field;
    return true;
}

static bool
read_field(Head *head, PyObject *pair, bool is_latin)
{
    if (!(PyTuple_CheckExact(pair) || PyList_CheckExact(pair)) ||
        PySequence_Fast_GET_SIZE(pair) != 2) {
        return false;
    }
    Field field;
    if (!read_text(PySequence_Fast_GET_ITEM(pair, 0), is_latin, &field.name) ||
        !read_text(PySequence_Fast_GET_ITEM(pair, 1), is_latin, &field.value)) {
        return false;
    }
    field.value = strip(field.value);
    return is_token(field.name) && is_text(field.value) && take_field(head, field);
}

/* Nothing here runs code of an app. So the list stays as it is, and what it refers to stays alive. */
static bool
read_fields(Head *head, PyObject *fields, bool is_latin)
{
    if (!(PyTuple_CheckExact(fields) || PyList_CheckExact(fields)) ||
        PySequence_Fast_GET_SIZE(fields) > FIELDS_MAX) {
        return false;
    }
    for (Py_ssize_t i = 0; i < PySequence_Fast_GET_SIZE(fields); i++) {
        if (!read_field(head, PySequence_Fast_GET_ITEM(fields, i), is_latin)) {
            return false;
        }
    }
    return true;
}

/* Framing (RFC 9112 §6) ------------------------------------------------------------------------- */

/* The request, and what is known of the body. */
typedef struct {
    long status;
    bool is_head;         /* the method is HEAD */
    bool is_old;          /* HTTP/1.0 */
    long long length;     /* bytes of the body; -1: unknown */
    char digits[24];      /* a length in decimal */
} Answer;

/* Return the framing, and decide on the line that tells it: `declared`, or none. */
static long long
frame(Answer *answer, Text *declared)
{
    bool tells_length = declared->start == NULL && answer->length >= 0;
    long long framing;
    if (answer->is_head || answer->status == 204 || answer->status == 304) {
        if (answer->status == 204) {
            declared->start = NULL;
        }
        tells_length = tells_length && answer->length > 0 && answer->status != 204 &&
                       answer->status != 304;
        framing = 0;
    } else if (declared->start != NULL) {
        framing = number_of(*declared);
    } else if (answer->length >= 0) {
        framing = answer->length;
    } else {
        framing = answer->is_old ? UNTIL_CLOSE : CHUNKED;
    }
    if (tells_length) {
        int size = PyOS_snprintf(answer->digits, sizeof answer->digits, "%lld", answer->length);
        *declared = (Text){(const byte *)answer->digits, size};
    }
    return framing;
}

/* Writing --------------------------------------------------------------------------------------- */

static byte *
put(byte *at, const void *bytes, size_t size)
{
    memcpy(at, bytes, size);
    return at + size;
}

static byte *
put_field(byte *at, const Field *field)
{
    at = put(at, "\r\n", 2);
    for (Py_ssize_t i = 0; i < field->name.size; i++) {
        *at++ = TOKEN[field->name.start[i]];
    }
    at = put(at, ": ", 2);
    return put(at, field->value.start, (size_t)field->value.size);
}

/* Return the head as bytes; NULL with an exception, or without one if it is too large. */
static PyObject *
write_head(const Head *head, Text line, Text reason, bool is_chunked, Text date, Text server)
{
    const Text declared = head->declared;
    Py_ssize_t size = line.size + reason.size + date.size + server.size + 4;
    for (Py_ssize_t i = 0; i < head->count; i++) {
        size += head->fields[i].name.size + head->fields[i].value.size + 4;
    }
    if (is_chunked) {
        size += (Py_ssize_t)sizeof CODING_LINE - 1;
    } else if (declared.start != NULL) {
        size += (Py_ssize_t)sizeof LENGTH_START - 1 + declared.size;
    }
    if (size > HEAD_MAX) {
        return NULL;
    }
    PyObject *written = PyBytes_FromStringAndSize(NULL, size);
    if (written == NULL) {
        return NULL;
    }
    byte *at = (byte *)PyBytes_AS_STRING(written);
    at = put(at, line.start, (size_t)line.size);
    at = put(at, reason.start, (size_t)reason.size);
    for (Py_ssize_t i = 0; i < head->count; i++) {
        at = put_field(at, &head->fields[i]);
    }
    if (is_chunked) {
        at = put(at, CODING_LINE, sizeof CODING_LINE - 1);
    } else if (declared.start != NULL) {
        at = put(at, LENGTH_START, sizeof LENGTH_START - 1);
        at = put(at, declared.start, (size_t)declared.size);
    }
    at = put(at, "\r\n", 2);
    at = put(at, date.start, (size_t)date.size);
    at = put(at, server.start, (size_t)server.size);
    put(at, "\r\n", 2);
    return written;
}

/* The fields of a WSGI app ---------------------------------------------------------------------- */

/* Note a field that can be sent, and a Content-Length. Returns false if Python must decide. */
static bool
judge_field(PyObject *pair, long long *declared)
{
    Text name, value;
    if (!PyTuple_CheckExact(pair) || PyTuple_GET_SIZE(pair) != 2 ||
        !read_latin(PyTuple_GET_ITEM(pair, 0), &name) ||
        !read_latin(PyTuple_GET_ITEM(pair, 1), &value) || !is_token(name) || !is_text(value)) {
        return false;
    }
    if (name.size == 14 && is_name(name, "content-length")) {
        if (*declared >= 0 || !is_number(value)) {
            return false;
        }
        *declared = number_of(value);
    }
    return true;
}

/* Return the fields, and the Content-Length or None. Takes over `copy`. */
static PyObject *
with_length(PyObject *copy, long long declared)
{
    PyObject *number = declared >= 0 ? PyLong_FromLongLong(declared) : Py_NewRef(Py_None);
    PyObject *both = number != NULL ? PyTuple_New(2) : NULL;
    if (both == NULL) {
        Py_XDECREF(number);
        Py_DECREF(copy);
        return NULL;
    }
    PyTuple_SET_ITEM(both, 0, copy);
    PyTuple_SET_ITEM(both, 1, number);
    return both;
}

/* The copy has the app's own pairs. They are tuples of two str, so the app cannot change them. */
static PyObject *
copy_fields(PyObject *Py_UNUSED(module), PyObject *headers)
{
    if (!PyList_CheckExact(headers)) {
        Py_RETURN_NONE;
    }
    PyObject *copy = PyList_AsTuple(headers);
    if (copy == NULL) {
        return NULL;
    }
    long long declared = -1;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(copy); i++) {
        if (!judge_field(PyTuple_GET_ITEM(copy, i), &declared)) {
            Py_DECREF(copy);
            if (PyErr_Occurred()) {
                return NULL;
            }
            Py_RETURN_NONE;
        }
    }
    return with_length(copy, declared);
}

/* The module ------------------------------------------------------------------------------------ */

/* Find the status line: two pieces, of which the second is the standard reason phrase. */
static bool
read_status(PyObject *lines, PyObject *status, long *number, Text *line, Text *reason)
{
    if (!PyLong_CheckExact(status)) {
        return false;
    }
    PyObject *pieces = PyDict_GetItemWithError(lines, status); /* borrowed */
    if (pieces == NULL || !PyTuple_CheckExact(pieces) || PyTuple_GET_SIZE(pieces) != 2) {
        return false;
    }
    *number = PyLong_AsLong(status); /* it is a key of the table, so it is small */
    return read_bytes(PyTuple_GET_ITEM(pieces, 0), line) &&
           read_bytes(PyTuple_GET_ITEM(pieces, 1), reason);
}

static bool
read_answer(PyObject *const *args, Answer *answer)
{
    Text method;
    int overflow = 0;
    if (!read_bytes(args[0], &method) || !PyLong_CheckExact(args[1])) {
        return false;
    }
    answer->is_head = method.size == 4 && memcmp(method.start, "HEAD", 4) == 0;
    answer->is_old = PyLong_AsLongAndOverflow(args[1], &overflow) == 0;
    answer->length = -1;
    if (args[2] != Py_None) {
        if (!PyLong_CheckExact(args[2])) {
            return false;
        }
        answer->length = PyLong_AsLongLongAndOverflow(args[2], &overflow);
        if (answer->length < 0) {
            return false;
        }
    }
    return overflow == 0;
}

/* Encode a head whose fields and reason are bytes, or latin-1 text. */
static PyObject *
encode(PyObject *const *args, Py_ssize_t count, bool is_latin)
{
    if (count != 9 || !PyDict_CheckExact(args[0])) {
        PyErr_SetString(PyExc_TypeError, "a head is encoded of a dict and eight values");
        return NULL;
    }
    Head head; /* its fields need no zeros: `count` says how many there are */
    head.count = 0;
    head.declared = (Text){NULL, 0};
    head.has_date = head.has_server = false;
    Answer answer;
    Text line, reason, date, server;
    if (!read_status(args[0], args[1], &answer.status, &line, &reason) ||
        !read_answer(args + 3, &answer) || !read_bytes(args[6], &date) ||
        !read_bytes(args[7], &server) ||
        (args[8] != Py_None && (!read_text(args[8], is_latin, &reason) || !is_text(reason))) ||
        !read_fields(&head, args[2], is_latin)) {
        if (PyErr_Occurred()) {
            return NULL;
        }
        Py_RETURN_NONE;
    }
    long long framing = frame(&answer, &head.declared);
    const Text nothing = {(const byte *)"", 0};
    PyObject *written = write_head(&head, line, reason, framing == CHUNKED,
                                   head.has_date ? nothing : date,
                                   head.has_server ? nothing : server);
    if (written == NULL) {
        if (PyErr_Occurred()) {
            return NULL;
        }
        Py_RETURN_NONE;
    }
    PyObject *number = PyLong_FromLongLong(framing);
    PyObject *both = number != NULL ? PyTuple_New(2) : NULL;
    if (both == NULL) {
        Py_XDECREF(number);
        Py_DECREF(written);
        return NULL;
    }
    PyTuple_SET_ITEM(both, 0, written);
    PyTuple_SET_ITEM(both, 1, number);
    return both;
}

static PyObject *
encode_head(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    return encode(args, count, false);
}

static PyObject *
encode_text(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    return encode(args, count, true);
}

static PyMethodDef module_methods[] = {
    {"encode_head", (PyCFunction)(void (*)(void))encode_head, METH_FASTCALL,
     "encode_head(lines, status, fields, method, minor_version, length, date, server, reason):\n"
     "the head and the framing, or None: Python must decide."},
    {"encode_text", (PyCFunction)(void (*)(void))encode_text, METH_FASTCALL,
     "encode_text: encode_head of a reason and fields that are str, as those of a WSGI app."},
    {"copy_fields", copy_fields, METH_O,
     "copy_fields(headers): the fields of a WSGI app, which can be sent, and its Content-Length or\n"
     "None; or None instead of both: Python must decide."},
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
    .m_name = "reactor_run.protocol._response",
    .m_doc = "Encodes the common case of a response head. Python decides the rest.",
    .m_size = 0,
    .m_methods = module_methods,
    .m_slots = module_slots,
};

PyMODINIT_FUNC
PyInit__response(void)
{
    return PyModuleDef_Init(&module_def);
}
