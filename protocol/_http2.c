/* Makes a head of HTTP/1.1 of the fields of an HTTP/2 request, and fields of an answer of HTTP/1.1.
 * It also counts the heads in what a client sends.
 *
 * The translation in Python (http2/request_head.py, http2/answer.py) is the only authority. This
 * file translates the common case with the same result, and returns None for everything else: then
 * Python translates it, or says what is wrong. tests/fuzz/translation.py compares the two.
 *
 * A byte that changes where a field or the head ends would be an injection. So each name and each
 * value is checked here too, whatever the library or the front end has checked.
 *
 * What is left to Python:
 *
 *     requests   CONNECT and `:protocol`, schemes but http and https, targets that are no path, a
 *                Host that differs from :authority, lengths that differ from the content
 *     answers    interim ones, 204 and 304, those without Content-Length or with a transfer coding,
 *                and those that are here in part
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

typedef unsigned char byte;

enum {
    DIGITS_MAX = 18,           /* digits of a Content-Length: they fit into 63 bits */
    HEAD_MAX = 65536,          /* bytes of the head of an answer (response.py) */
    LINES_MAX = 256,           /* field lines of a head */
    LENGTH_LINE = 16 + 20 + 2, /* the most bytes of a line with Content-Length */
};

/* Characters ------------------------------------------------------------------------------------ */

enum {
    TOKEN = 1, /* tchar, RFC 9110 §5.6.2 */
    UPPER = 2, /* a letter that a name of HTTP/2 does not have (RFC 9113 §8.2.1) */
};

static const byte CLASS[256] = {
    ['0' ... '9'] = TOKEN,
    ['A' ... 'Z'] = TOKEN | UPPER,
    ['a' ... 'z'] = TOKEN,
    ['!'] = TOKEN, ['#'] = TOKEN, ['$'] = TOKEN, ['%'] = TOKEN, ['&'] = TOKEN, ['\''] = TOKEN,
    ['*'] = TOKEN, ['+'] = TOKEN, ['-'] = TOKEN, ['.'] = TOKEN, ['^'] = TOKEN, ['_'] = TOKEN,
    ['`'] = TOKEN, ['|'] = TOKEN, ['~'] = TOKEN,
};

/* Some bytes of an object that outlives it. */
typedef struct {
    const byte *at;
    Py_ssize_t size;
} Text;

static inline bool
is_text(Text text, const char *other)
{
    return text.size == (Py_ssize_t)strlen(other) && memcmp(text.at, other, text.size) == 0;
}

static bool
is_token(Text text)
{
    for (Py_ssize_t i = 0; i < text.size; i++) {
        if (CLASS[text.at[i]] != TOKEN && CLASS[text.at[i]] != (TOKEN | UPPER)) {
            return false;
        }
    }
    return text.size > 0;
}

/* Whether it is a name in lower case. */
static bool
is_name(Text text)
{
    for (Py_ssize_t i = 0; i < text.size; i++) {
        if (CLASS[text.at[i]] != TOKEN) {
            return false;
        }
    }
    return text.size > 0;
}

/* Whether it has neither a space nor a control character, and none above `last`. */
static bool
is_visible(Text text, byte last)
{
    byte bad = 0;
    for (Py_ssize_t i = 0; i < text.size; i++) {
        bad |= (byte)(text.at[i] <= ' ' || text.at[i] == 0x7f || text.at[i] > last);
    }
    return !bad;
}

/* Whether it has no character that ends a line or a head. The loop has no exit, so that the compiler
 * can compare many bytes at once. */
static bool
is_in_line(Text text)
{
    byte bad = 0;
    for (Py_ssize_t i = 0; i < text.size; i++) {
        bad |= (byte)(text.at[i] == '\r' || text.at[i] == '\n' || text.at[i] == '\0');
    }
    return !bad;
}

/* Read a decimal number. */
static bool
read_number(Text text, long long *number)
{
    *number = 0;
    if (text.size == 0 || text.size > DIGITS_MAX) {
        return false;
    }
    for (Py_ssize_t i = 0; i < text.size; i++) {
        if (text.at[i] < '0' || text.at[i] > '9') {
            return false;
        }
        *number = *number * 10 + (text.at[i] - '0');
    }
    return true;
}

/* Requests -------------------------------------------------------------------------------------- */

/* What a name means here, as in request_head.py. */
typedef enum { PLAIN, COOKIE, HOST, LENGTH, TE, OTHER } Meaning;

static Meaning
meaning_of(Text name)
{
    switch (name.size) {
    case 2:
        return is_text(name, "te") ? TE : PLAIN;
    case 4:
        return is_text(name, "host") ? HOST : PLAIN;
    case 6:
        return is_text(name, "cookie") ? COOKIE : PLAIN;
    case 7:
        return is_text(name, "upgrade") ? OTHER : PLAIN;
    case 10:
        return is_text(name, "connection") || is_text(name, "keep-alive") ? OTHER : PLAIN;
    case 14:
        return is_text(name, "content-length") ? LENGTH : PLAIN;
    case 16:
        return is_text(name, "proxy-connection") ? OTHER : PLAIN;
    case 17:
        return is_text(name, "transfer-encoding") ? OTHER : PLAIN;
    default:
        return PLAIN;
    }
}

/* The fields of a request. */
typedef struct {
    Text method, target, authority, scheme;
    PyObject *method_object; /* borrowed */
    bool has_host;
    long long length; /* -1: there is no Content-Length */
    Py_ssize_t size;  /* bytes of all lines that stay as they are */
    Py_ssize_t lines, cookies;
    Text names[LINES_MAX], values[LINES_MAX], crumbs[LINES_MAX];
} Request;

static bool
text_of(PyObject *object, Text *text)
{
    if (!PyBytes_CheckExact(object)) {
        return false;
    }
    *text = (Text){(const byte *)PyBytes_AS_STRING(object), PyBytes_GET_SIZE(object)};
    return true;
}

/* Take a pseudo-header field (RFC 9113 §8.3). */
static bool
take_pseudo(Request *request, Text name, Text value, PyObject *object)
{
    Text *place;
    if (is_text(name, ":method")) {
        place = &request->method;
        request->method_object = object;
    } else if (is_text(name, ":path")) {
        place = &request->target;
    } else if (is_text(name, ":authority")) {
        place = &request->authority;
    } else if (is_text(name, ":scheme")) {
        place = &request->scheme;
    } else {
        return false;
    }
    if (place->size > 0 || value.size == 0 || request->lines > 0 || request->cookies > 0 ||
        request->has_host) {
        return false;
    }
    *place = value;
    return true;
}

static bool
take_field(Request *request, PyObject *field)
{
    Text name, value;
    if (!PyTuple_Check(field) || PyTuple_GET_SIZE(field) != 2 ||
        !text_of(PyTuple_GET_ITEM(field, 0), &name) ||
        !text_of(PyTuple_GET_ITEM(field, 1), &value) || request->lines == LINES_MAX ||
        request->cookies == LINES_MAX) {
        return false;
    }
    if (name.size > 0 && name.at[0] == ':') {
        return take_pseudo(request, name, value, PyTuple_GET_ITEM(field, 1));
    }
    if (!is_name(name) || !is_in_line(value)) {
        return false;
    }
    switch (meaning_of(name)) {
    case OTHER:
        return false;
    case COOKIE: /* clients split them (RFC 9113 §8.2.3) */
        request->crumbs[request->cookies++] = value;
        request->size += value.size + 2;
        return true;
    case HOST: /* RFC 9113 §8.3.1 */
        if (request->has_host || value.size == 0 ||
            (request->authority.size > 0 && (request->authority.size != value.size ||
             memcmp(request->authority.at, value.at, value.size) != 0))) {
            return false;
        }
        request->has_host = true;
        request->authority = value;
        return true;
    case LENGTH:
        if (request->length >= 0 || !read_number(value, &request->length)) {
            return false;
        }
        break;
    case TE:
        if (!is_text(value, "trailers")) {
            return false;
        }
        break;
    case PLAIN:
        break;
    }
    request->names[request->lines] = name;
    request->values[request->lines++] = value;
    request->size += name.size + value.size + 4;
    return true;
}

static inline byte *
put(byte *at, Text text)
{
    if (text.size > 0) { /* one that is missing has no address */
        memcpy(at, text.at, text.size);
    }
    return at + text.size;
}

static inline byte *
put_literal(byte *at, const char *text)
{
    return put(at, (Text){(const byte *)text, (Py_ssize_t)strlen(text)});
}

/* Return the head: its lines in their order, then the cookies in one line, then `last`. */
static PyObject *
write_head(const Request *request, const char *last)
{
    static const char version[] = " HTTP/1.1\r\nhost: ";
    Py_ssize_t size = request->method.size + 1 + request->target.size + (sizeof version - 1) +
                      request->authority.size + 2 + request->size + (Py_ssize_t)strlen(last) + 2;
    if (request->cookies > 0) {
        size += (Py_ssize_t)sizeof "cookie: " - 1; /* two bytes follow each cookie */
    }
    PyObject *head = PyBytes_FromStringAndSize(NULL, size);
    if (head == NULL) {
        return NULL;
    }
    byte *at = (byte *)PyBytes_AS_STRING(head);
    at = put(at, request->method);
    *at++ = ' ';
    at = put(at, request->target);
    at = put_literal(at, version);
    at = put(at, request->authority);
    at = put_literal(at, "\r\n");
    for (Py_ssize_t i = 0; i < request->lines; i++) {
        at = put(at, request->names[i]);
        at = put_literal(at, ": ");
        at = put(at, request->values[i]);
        at = put_literal(at, "\r\n");
    }
    for (Py_ssize_t i = 0; i < request->cookies; i++) {
        at = put_literal(at, i == 0 ? "cookie: " : "; ");
        at = put(at, request->crumbs[i]);
    }
    if (request->cookies > 0) {
        at = put_literal(at, "\r\n");
    }
    at = put_literal(at, last);
    put_literal(at, "\r\n");
    return head;
}

/* Return what request_head.py returns, as a tuple. Takes over the references to `head` and `length`,
 * which may be NULL. */
static PyObject *
translated(PyObject *head, PyObject *method, PyObject *length, bool chunked)
{
    PyObject *result = head != NULL && length != NULL ? PyTuple_New(5) : NULL;
    if (result == NULL) {
        Py_XDECREF(head);
        Py_XDECREF(length);
        return NULL;
    }
    PyTuple_SET_ITEM(result, 0, head);
    PyTuple_SET_ITEM(result, 1, Py_NewRef(method));
    PyTuple_SET_ITEM(result, 2, length);
    PyTuple_SET_ITEM(result, 3, Py_NewRef(chunked ? Py_True : Py_False));
    PyTuple_SET_ITEM(result, 4, Py_NewRef(Py_False));
    return result;
}

static PyObject *
write_request(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (count != 3 || !PyBool_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError,
                        "write_request takes fields, a bool, and a number or None");
        return NULL;
    }
    PyObject *fields = args[0];
    bool ended = args[1] == Py_True;
    long long arrived = -1; /* there is no content */
    if (args[2] != Py_None) {
        arrived = PyLong_AsLongLong(args[2]);
        if (arrived == -1 && PyErr_Occurred()) {
            return NULL;
        }
    }
    if (!PyTuple_CheckExact(fields) || PyTuple_GET_SIZE(fields) > LINES_MAX) {
        Py_RETURN_NONE;
    }
    Request request; /* its fields need no zeros: `lines` and `cookies` say how many there are */
    memset(&request, 0, offsetof(Request, names));
    request.length = -1;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(fields); i++) {
        if (!take_field(&request, PyTuple_GET_ITEM(fields, i))) {
            Py_RETURN_NONE;
        }
    }
    if (!is_token(request.method) || is_text(request.method, "CONNECT") ||
        (!is_text(request.scheme, "https") && !is_text(request.scheme, "http")) ||
        request.target.size == 0 || request.target.at[0] != '/' ||
        !is_visible(request.target, 0xff) || !is_visible(request.authority, 0x7e)) {
        Py_RETURN_NONE;
    }
    char last[LENGTH_LINE + 1] = "";
    long long length = request.length;
    bool chunked = false;
    if (length >= 0) { /* RFC 9113 §8.1.1 */
        long long so_far = arrived > 0 ? arrived : 0;
        if (length < so_far || (ended && length > so_far)) {
            Py_RETURN_NONE;
        }
    } else if (!ended) {
        chunked = true;
        strcpy(last, "transfer-encoding: chunked\r\n");
    } else if (arrived >= 0) {
        length = arrived;
        snprintf(last, sizeof last, "content-length: %lld\r\n", length);
    }
    return translated(write_head(&request, last), request.method_object,
                      PyLong_FromLongLong(length), chunked);
}

/* Answers --------------------------------------------------------------------------------------- */

/* Fields that an answer of HTTP/2 must not have (RFC 9113 §8.2.2, RFC 8441 §5). */
static bool
is_not_sent(Text name)
{
    switch (name.size) {
    case 7:
        return is_text(name, "upgrade");
    case 10:
        return is_text(name, "connection") || is_text(name, "keep-alive");
    case 16:
        return is_text(name, "proxy-connection");
    case 20:
        return is_text(name, "sec-websocket-accept");
    default:
        return false;
    }
}

/* An answer, and how far it was read. */
typedef struct {
    const byte *at;
    const byte *end;
    long long length; /* -1: there is no Content-Length */
} Answer;

/* Read up to CRLF: text without control characters but HTAB (RFC 9110 §5.5). */
static bool
read_text(Answer *answer, Text *text)
{
    const byte *end = memchr(answer->at, '\r', answer->end - answer->at);
    if (end == NULL || end[1] != '\n') { /* a bytes object ends with NUL */
        return false;
    }
    byte bad = 0;
    for (const byte *at = answer->at; at < end; at++) {
        bad |= (byte)((*at < ' ' && *at != '\t') | (*at == 0x7f));
    }
    *text = (Text){answer->at, end - answer->at};
    answer->at = end + 2;
    return !bad;
}

static Text
stripped(Text text)
{
    while (text.size > 0 && (text.at[0] == ' ' || text.at[0] == '\t')) {
        text.at++;
        text.size--;
    }
    while (text.size > 0 && (text.at[text.size - 1] == ' ' || text.at[text.size - 1] == '\t')) {
        text.size--;
    }
    return text;
}

/* Append a pair to the list. */
static bool
add_pair(PyObject *list, PyObject *name, Text value)
{
    PyObject *pair = PyTuple_New(2);
    PyObject *text = PyBytes_FromStringAndSize((const char *)value.at, value.size);
    if (pair == NULL || text == NULL || name == NULL) {
        Py_XDECREF(pair);
        Py_XDECREF(text);
        Py_XDECREF(name);
        return false;
    }
    PyTuple_SET_ITEM(pair, 0, name);
    PyTuple_SET_ITEM(pair, 1, text);
    bool added = PyList_Append(list, pair) == 0;
    Py_DECREF(pair);
    return added;
}

/* Read a field line, and append its field to the list. Returns false if Python must decide, or with
 * an exception. */
static bool
read_field(Answer *answer, PyObject *fields)
{
    const byte *start = answer->at;
    Text name = {start, 0}, value;
    while (CLASS[start[name.size]] & TOKEN) { /* a bytes object ends with NUL, which is no token */
        name.size++;
    }
    if (name.size == 0 || start[name.size] != ':') {
        return false;
    }
    answer->at = start + name.size + 1;
    if (!read_text(answer, &value) || PyList_GET_SIZE(fields) > LINES_MAX) {
        return false;
    }
    value = stripped(value);
    PyObject *object = PyBytes_FromStringAndSize(NULL, name.size);
    if (object == NULL) {
        return false;
    }
    byte *lower = (byte *)PyBytes_AS_STRING(object);
    for (Py_ssize_t i = 0; i < name.size; i++) {
        lower[i] = (byte)Py_TOLOWER(start[i]);
    }
    name.at = lower;
    bool framing_is_clear = true;
    if (is_text(name, "content-length")) {
        framing_is_clear = answer->length < 0 && read_number(value, &answer->length);
    } else if (is_text(name, "transfer-encoding")) {
        framing_is_clear = false;
    }
    if (!framing_is_clear || is_not_sent(name)) {
        Py_DECREF(object);
        return framing_is_clear;
    }
    return add_pair(fields, object, value);
}

/* Read the status line of a final answer that may have content (RFC 9112 §4). */
static bool
read_status(Answer *answer, Text *code)
{
    static const char version[] = "HTTP/1.1 ";
    enum { CODE = sizeof version - 1, REASON = CODE + 3 };
    const byte *start = answer->at;
    if (answer->end - start < REASON + 1 || memcmp(start, version, CODE) != 0) {
        return false;
    }
    *code = (Text){start + CODE, 3};
    for (int i = 0; i < 3; i++) {
        if (code->at[i] < '0' || code->at[i] > '9') {
            return false;
        }
    }
    answer->at = start + REASON;
    Text reason;
    return code->at[0] >= '2' && !is_text(*code, "204") && !is_text(*code, "304") &&
           *answer->at == ' ' && read_text(answer, &reason);
}

static PyObject *
split_answer(PyObject *module, PyObject *data)
{
    if (!PyBytes_CheckExact(data)) {
        Py_RETURN_NONE;
    }
    const byte *start = (const byte *)PyBytes_AS_STRING(data);
    Answer answer = {start, start + PyBytes_GET_SIZE(data), -1};
    Text code;
    if (!read_status(&answer, &code)) {
        Py_RETURN_NONE;
    }
    PyObject *fields = PyList_New(0);
    if (fields == NULL) {
        return NULL;
    }
    bool clear = add_pair(fields, PyBytes_FromStringAndSize(":status", 7), code);
    while (clear && *answer.at != '\r') {
        clear = read_field(&answer, fields);
    }
    /* What is left are the empty line and the content. */
    Py_ssize_t left = answer.end - answer.at - 2;
    if (clear && answer.at[1] == '\n' && left == answer.length &&
        answer.at + 2 - start <= HEAD_MAX) {
        PyObject *content = PyBytes_FromStringAndSize((const char *)answer.at + 2, left);
        PyObject *result = content != NULL ? PyTuple_New(2) : NULL;
        if (result != NULL) {
            PyTuple_SET_ITEM(result, 0, fields);
            PyTuple_SET_ITEM(result, 1, content);
            return result;
        }
        Py_XDECREF(content);
    }
    Py_DECREF(fields);
    if (PyErr_Occurred()) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Frames ---------------------------------------------------------------------------------------- */

enum {
    FRAME_HEAD = 9, /* RFC 9113 §4.1: a length of 3 bytes, the type, flags, and the stream */
    HEADERS = 1,
};

/* count_heads(data, skip) -> (heads, skip) */
static PyObject *
count_heads(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2 || !PyBytes_Check(args[0])) {
        Py_RETURN_NONE;
    }
    const byte *data = (const byte *)PyBytes_AS_STRING(args[0]);
    Py_ssize_t size = PyBytes_GET_SIZE(args[0]);
    Py_ssize_t at = PyLong_AsSsize_t(args[1]);
    if (at < 0) {
        PyErr_Clear();
        Py_RETURN_NONE;
    }
    Py_ssize_t heads = 0;
    /* The next frame begins at `at`, which may lie behind the data. */
    while (at <= size - FRAME_HEAD) {
        const byte *frame = data + at;
        heads += frame[3] == HEADERS;
        at += FRAME_HEAD + ((Py_ssize_t)frame[0] << 16 | frame[1] << 8 | frame[2]);
    }
    return Py_BuildValue("nn", heads, at - size);
}

/* The module ------------------------------------------------------------------------------------ */

static PyMethodDef module_methods[] = {
    {"count_heads", (PyCFunction)(void (*)(void))count_heads, METH_FASTCALL,
     "count_heads(data, skip): how many heads begin in frames, and where the next frame begins."},
    {"write_request", (PyCFunction)(void (*)(void))write_request, METH_FASTCALL,
     "write_request(fields, ended, size): the head of a request, or None."},
    {"split_answer", split_answer, METH_O,
     "split_answer(data): the fields and the content of a whole answer, or None."},
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
    .m_name = "reactor_run.protocol._http2",
    .m_doc = "Translates the common case between HTTP/2 and HTTP/1.1. Python decides the rest.",
    .m_methods = module_methods,
    .m_slots = module_slots,
};

PyMODINIT_FUNC
PyInit__http2(void)
{
    return PyModuleDef_Init(&module_def);
}
