/* Reads the common case of a request head in one pass, and nothing else.
 *
 * The policy in Python (policy.py, request.py) is the only authority on what is accepted. This file
 * accepts a head only if the policy accepts it too, and gives it the same meaning. For every other
 * head `read_head` returns None, and then the policy decides: bad heads, rare ones, incomplete
 * ones. So no rule has a verdict here. tests/fuzz/native.py compares the two.
 *
 * Theory of operation. A head stays where it is, in one bytes object. A Head notes where its pieces
 * begin and end, and makes objects of them when they are asked for. The front end asks for few; a
 * reactor asks for the parts of the ASGI scope or of the WSGI environ. What an app sees of a field
 * name is decided by a function in Python (scope.py, environ.py); `Names` remembers its answers.
 *
 * The rules stand in the order of a head:
 *
 *     request line    method SP target SP HTTP-version CRLF   RFC 9112 §3
 *     field lines     name ":" OWS value OWS CRLF             RFC 9112 §5
 *     their meanings  Host, Content-Length, Connection, ...   RFC 9110, RFC 9112 §6
 *     the whole       one Host, the limits                    RFC 9112 §3.2
 *
 * What is left to the policy: methods in other letters than A to Z, targets that are no path,
 * escapes and dot segments in a path, line ends without CR, a Host with brackets or escapes,
 * Transfer-Encoding, Expect, Upgrade, and repeated fields that must be single.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <structmember.h>

typedef unsigned char byte;

/* The bounds of what is read here. Within them every position fits into a uint16_t. */
enum {
    HEAD_MAX = UINT16_MAX, /* bytes of a head */
    FIELDS_MAX = 64,       /* field lines of a head */
    METHOD_MIN = 3,        /* bytes of a method, as the policy has it */
    METHOD_MAX = 20,
    DIGITS_MAX = 18,       /* digits of a Content-Length: they fit into 63 bits */
    PORT_DIGITS_MAX = 5,
    PORT_MAX = 65535,
};

/* Characters ------------------------------------------------------------------------------------ */

enum {
    ALNUM = 1,  /* ALPHA / DIGIT */
    TOKEN = 2,  /* tchar, RFC 9110 §5.6.2 */
    TARGET = 4, /* printable ASCII but "#", see target.py */
    HOST = 8,   /* unreserved / sub-delims, RFC 3986 §3.2.2: a reg-name without escapes */
};

/* The characters that are not here have none of the properties: controls, SP, "#" in targets, DEL
 * and all above. */
static const byte CLASS[256] = {
    ['0' ... '9'] = ALNUM | TOKEN | TARGET | HOST,
    ['A' ... 'Z'] = ALNUM | TOKEN | TARGET | HOST,
    ['a' ... 'z'] = ALNUM | TOKEN | TARGET | HOST,
    ['!'] = TOKEN | TARGET | HOST, ['$'] = TOKEN | TARGET | HOST, ['&'] = TOKEN | TARGET | HOST,
    ['\''] = TOKEN | TARGET | HOST, ['*'] = TOKEN | TARGET | HOST, ['+'] = TOKEN | TARGET | HOST,
    ['-'] = TOKEN | TARGET | HOST, ['.'] = TOKEN | TARGET | HOST, ['_'] = TOKEN | TARGET | HOST,
    ['~'] = TOKEN | TARGET | HOST,
    ['%'] = TOKEN | TARGET, ['^'] = TOKEN | TARGET, ['`'] = TOKEN | TARGET, ['|'] = TOKEN | TARGET,
    ['#'] = TOKEN,
    ['('] = TARGET | HOST, [')'] = TARGET | HOST, [','] = TARGET | HOST, [';'] = TARGET | HOST,
    ['='] = TARGET | HOST,
    ['"'] = TARGET, ['/'] = TARGET, [':'] = TARGET, ['<'] = TARGET, ['>'] = TARGET, ['?'] = TARGET,
    ['@'] = TARGET, ['['] = TARGET, ['\\'] = TARGET, [']'] = TARGET, ['{'] = TARGET, ['}'] = TARGET,
};

static inline bool
is(byte character, int property)
{
    return CLASS[character] & property;
}

static inline bool
is_digit(byte character)
{
    return character >= '0' && character <= '9';
}

static inline bool
is_space(byte character) /* OWS, RFC 9110 §5.6.3 */
{
    return character == ' ' || character == '\t';
}

/* Whether `size` bytes are `lower`, in any case. `lower` holds lower-case letters, digits and "-".
 * Setting bit 5 makes a letter lower-case. It also makes "-" and digits of some control characters,
 * which stand in no name and no value by now. */
static inline bool
is_word(const byte *text, const char *lower, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if ((text[i] | 0x20) != lower[i]) {
            return false;
        }
    }
    return true;
}

/* What a head is read into ---------------------------------------------------------------------- */

/* A field line: positions in the head, in bytes. */
typedef struct {
    uint16_t name;
    uint16_t name_size;
    uint16_t value;
    uint16_t value_size;
} Field;

/* The limits of the operator, in bytes or lines (`Limits.bounds` in policy.py). */
typedef struct {
    long long request_line;
    long long field_count;
    long long field_size;
    long long head_size;
    long long body_size; /* 0: no bound */
} Bounds;

/* A head that is being read.
 *
 * A bytes object ends with a NUL that does not count. No character class contains NUL. So a loop
 * over a class stops there at the latest, and the byte after any byte of the head may be looked at.
 */
typedef struct {
    const byte *start;
    const byte *at;  /* the next byte to read */
    const byte *end; /* behind the last byte that was received */
    Bounds bounds;

    uint16_t method_size;
    uint16_t target;
    uint16_t target_size;
    uint16_t path_size; /* the target up to "?" */
    int minor_version;

    int hosts;
    bool has_length, has_type, keep_alive, close;
    long long length;

    Py_ssize_t count;
    Field fields[FIELDS_MAX];
} Reading;

/* The functions below return false if the policy must decide. */

/* Request line ---------------------------------------------------------------------------------- */

static bool
read_request_line(Reading *reading)
{
    const byte *at = reading->start;

    /* RFC 9110 §9.1: a method. The policy rejects CONNECT (§9.3.6). */
    while (*at >= 'A' && *at <= 'Z') {
        at++;
    }
    ptrdiff_t method_size = at - reading->start;
    if (*at != ' ' || method_size < METHOD_MIN || method_size > METHOD_MAX ||
        (method_size == 7 && memcmp(reading->start, "CONNECT", 7) == 0)) {
        return false;
    }
    at++;

    /* RFC 9112 §3.2.1: origin-form. A query may hold anything that a target may. */
    const byte *target = at;
    const byte *query = NULL;
    if (*at != '/') {
        return false;
    }
    for (; is(*at, TARGET); at++) {
        if (query != NULL) {
            continue;
        }
        if (*at == '?') {
            query = at;
        } else if (*at == '%' || (*at == '/' && at[1] == '.')) {
            return false;
        }
    }
    const byte *target_end = at;

    /* RFC 9112 §2.3: HTTP-version. */
    static const char version[] = " HTTP/1.";
    enum { VERSION = sizeof version - 1, AFTER_TARGET = VERSION + sizeof "1\r\n" - 1 };
    if (reading->end - at < AFTER_TARGET || memcmp(at, version, VERSION) != 0) {
        return false;
    }
    at += VERSION;
    if ((*at != '0' && *at != '1') || at[1] != '\r' || at[2] != '\n') {
        return false;
    }
    reading->minor_version = *at - '0';
    at += 3;

    /* The line end is counted too, so that the policy decides at the limit. */
    if (at - reading->start > reading->bounds.request_line ||
        at - reading->start > reading->bounds.head_size) {
        return false;
    }
    reading->method_size = (uint16_t)method_size;
    reading->target = (uint16_t)(target - reading->start);
    reading->target_size = (uint16_t)(target_end - target);
    reading->path_size = (uint16_t)((query != NULL ? query : target_end) - target);
    reading->at = at;
    return true;
}

/* Meanings of fields ---------------------------------------------------------------------------- */

/* RFC 9112 §3.2, RFC 9110 §7.2: Host = uri-host [ ":" port ], once. */
static bool
read_host(Reading *reading, const byte *at, const byte *end)
{
    if (reading->hosts++ > 0 || at == end) {
        return false;
    }
    while (at < end && is(*at, HOST)) {
        at++;
    }
    if (at == end) {
        return true;
    }
    if (*at++ != ':' || end - at > PORT_DIGITS_MAX) {
        return false;
    }
    int port = 0;
    for (; at < end; at++) {
        if (!is_digit(*at)) {
            return false;
        }
        port = port * 10 + (*at - '0');
    }
    return port <= PORT_MAX;
}

/* RFC 9110 §8.6, RFC 9112 §6.3: one Content-Length, a decimal number. A number with zeros before it
 * is left to the policy, so that the text of the field is also that of the number. */
static bool
read_length(Reading *reading, const byte *at, const byte *end)
{
    if (reading->has_length || at == end || end - at > DIGITS_MAX ||
        (*at == '0' && end - at > 1)) {
        return false;
    }
    reading->has_length = true;
    for (; at < end; at++) {
        if (!is_digit(*at)) {
            return false;
        }
        reading->length = reading->length * 10 + (*at - '0');
    }
    return reading->bounds.body_size <= 0 || reading->length <= reading->bounds.body_size;
}

/* RFC 9110 §7.6.1, RFC 9112 §9.3: the options of Connection. Unknown options mean nothing. */
static bool
read_connection(Reading *reading, const byte *at, const byte *end)
{
    while (at < end) {
        const byte *comma = memchr(at, ',', end - at);
        const byte *next = comma != NULL ? comma + 1 : end;
        const byte *last = comma != NULL ? comma : end;
        while (at < last && is_space(*at)) {
            at++;
        }
        while (last > at && is_space(last[-1])) {
            last--;
        }
        if (last - at == 10 && is_word(at, "keep-alive", 10)) {
            reading->keep_alive = true;
        } else if (last - at == 5 && is_word(at, "close", 5)) {
            reading->close = true;
        }
        at = next;
    }
    return true;
}

/* RFC 9112 §11.2: whether a name passes for `lower`, a framing field, with any punctuation in place
 * of the hyphen. */
static bool
is_disguise(const byte *name, const char *lower, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (lower[i] == '-' ? is(name[i], ALNUM) : (name[i] | 0x20) != lower[i]) {
            return false;
        }
    }
    return true;
}

/* Fields that matter to a server. All names have different sizes, so the size tells which one it
 * may be. */
static bool
read_meaning(Reading *reading, const byte *name, size_t size, const byte *value, const byte *end)
{
    switch (size) {
    case 4:
        return !is_word(name, "host", size) || read_host(reading, value, end);
    case 6:
        return !is_word(name, "expect", size);
    case 7:
        return !is_word(name, "upgrade", size);
    case 10:
        return !is_word(name, "connection", size) || read_connection(reading, value, end);
    case 12: { /* RFC 9110 §5.3: a single field. The policy rejects a second one. */
        bool is_type = is_word(name, "content-type", size);
        bool again = is_type && reading->has_type;
        reading->has_type |= is_type;
        return !again;
    }
    case 14:
        if (is_word(name, "content-length", size)) {
            return read_length(reading, value, end);
        }
        return !is_disguise(name, "content-length", size);
    case 17:
        return !is_disguise(name, "transfer-encoding", size);
    default:
        return true;
    }
}

/* Field lines ----------------------------------------------------------------------------------- */

/* RFC 9110 §5.5: whether a value holds no control character but HTAB. The loop has no exit, so that
 * the compiler can compare many bytes at once. */
static bool
is_text(const byte *at, const byte *end)
{
    byte bad = 0;
    for (; at < end; at++) {
        bad |= (byte)((*at < ' ' && *at != '\t') | (*at == 0x7f));
    }
    return !bad;
}

static bool
read_field_line(Reading *reading)
{
    if (reading->count == FIELDS_MAX || reading->count >= reading->bounds.field_count) {
        return false;
    }

    /* RFC 9112 §5.1: a token, then a colon without white space before it. */
    const byte *name = reading->at;
    const byte *at = name;
    while (is(*at, TOKEN)) {
        at++;
    }
    const byte *name_end = at;
    if (name_end == name || *at != ':') {
        return false;
    }

    /* RFC 9112 §5: the value up to CRLF. A line that begins with white space (obs-fold, §5.2) has no
     * name, so it is not accepted. */
    const byte *value = at + 1;
    const byte *line_end = memchr(value, '\r', reading->end - value);
    if (line_end == NULL || line_end[1] != '\n' || !is_text(value, line_end)) {
        return false;
    }
    const byte *value_end = line_end;
    while (value < value_end && is_space(*value)) {
        value++;
    }
    while (value_end > value && is_space(value_end[-1])) {
        value_end--;
    }

    /* The policy counts one space after the colon where there is none, so one more is counted. */
    at = line_end + 2;
    if (at - name + 1 > reading->bounds.field_size ||
        at - reading->start > reading->bounds.head_size) {
        return false;
    }
    if (!read_meaning(reading, name, name_end - name, value, value_end)) {
        return false;
    }
    reading->fields[reading->count++] = (Field){
        .name = (uint16_t)(name - reading->start),
        .name_size = (uint16_t)(name_end - name),
        .value = (uint16_t)(value - reading->start),
        .value_size = (uint16_t)(value_end - value),
    };
    reading->at = at;
    return true;
}

/* The whole head -------------------------------------------------------------------------------- */

static bool
read_whole(Reading *reading)
{
    if (reading->bounds.head_size > HEAD_MAX) {
        reading->bounds.head_size = HEAD_MAX;
    }
    if (!read_request_line(reading)) {
        return false;
    }
    while (*reading->at != '\r') {
        if (!read_field_line(reading)) {
            return false;
        }
    }
    if (reading->at[1] != '\n') {
        return false;
    }
    reading->at += 2;
    /* RFC 9112 §3.2: HTTP/1.1 requires Host. A second one was not accepted. */
    return reading->at - reading->start <= reading->bounds.head_size &&
           (reading->hosts == 1 || reading->minor_version == 0);
}

/* State of the module --------------------------------------------------------------------------- */

/* The methods that most clients send. Their objects are made once. */
static const char *const METHODS[] = {"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"};
enum { METHOD_COUNT = sizeof METHODS / sizeof *METHODS };

/* Keys of a scope and of an environ. */
enum {
    ASGI, STATE, EXTENSIONS,
    HTTP_VERSION, METHOD, PATH, RAW_PATH, QUERY, HEADERS, CLIENT, SERVER, SCHEME,
    REQUEST_METHOD, PATH_INFO, QUERY_STRING, REQUEST_URI, RAW_URI, SERVER_PROTOCOL,
    REMOTE_ADDR, REMOTE_PORT, SERVER_NAME, SERVER_PORT, KEY_COUNT
};
static const char *const KEYS[KEY_COUNT] = {
    "asgi", "state", "extensions",
    "http_version", "method", "path", "raw_path", "query_string", "headers", "client",
    "server", "scheme",
    "REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "REQUEST_URI", "RAW_URI", "SERVER_PROTOCOL",
    "REMOTE_ADDR", "REMOTE_PORT", "SERVER_NAME", "SERVER_PORT",
};
static const char *const VERSIONS[] = {"1.0", "1.1"};
static const char *const PROTOCOLS[] = {"HTTP/1.0", "HTTP/1.1"};

/* Each interpreter has its own module, and so its own objects. */
typedef struct {
    PyTypeObject *head_type;
    PyTypeObject *names_type;
    PyObject *methods_bytes[METHOD_COUNT];
    PyObject *methods_text[METHOD_COUNT];
    PyObject *keys[KEY_COUNT];
    PyObject *versions[2];
    PyObject *protocols[2];
} State;

/* Names: what an app sees for a field name ------------------------------------------------------ */

enum {
    SETS = 256, /* a power of two */
    WAYS = 4,
    NAME_MAX_SIZE = 64, /* longer names are translated each time */
};

typedef struct {
    PyObject *name; /* bytes, as sent; NULL: the place is free */
    PyObject *shown;
} Entry;

/* A cache of SETS times WAYS entries. Clients can invent names, so it is bounded. A name belongs to
 * one set. If the set is full, the new name replaces another one. It is never emptied: a parse
 * holds references of its own to what it was given. */
typedef struct {
    PyObject_HEAD
    PyObject *translate;
    unsigned turn; /* which entry of a full set is replaced next */
    Entry sets[SETS][WAYS];
} Names;

static unsigned
set_of(const char *name, size_t size)
{
    /* All bytes of a short name count, and the first and last eight of a longer one. */
    uint64_t first = 0, last = 0;
    if (size >= 8) {
        memcpy(&first, name, 8);
        memcpy(&last, name + size - 8, 8);
    } else {
        memcpy(&first, name, size);
    }
    uint64_t hash = (first + size) * 0x9E3779B97F4A7C15u;
    hash = (hash ^ (hash >> 29) ^ last) * 0xBF58476D1CE4E5B9u;
    return (unsigned)(hash >> 32) % SETS;
}

/* Return what `translate` makes of a name: a new reference, or NULL with an exception. */
static PyObject *
shown_name(Names *names, const char *name, Py_ssize_t size)
{
    Entry *set = names->sets[set_of(name, (size_t)size)];
    for (int way = 0; way < WAYS && set[way].name != NULL; way++) {
        if (PyBytes_GET_SIZE(set[way].name) == size &&
            memcmp(PyBytes_AS_STRING(set[way].name), name, (size_t)size) == 0) {
            return Py_NewRef(set[way].shown);
        }
    }
    PyObject *key = PyBytes_FromStringAndSize(name, size);
    if (key == NULL) {
        return NULL;
    }
    /* Another thread may change the set while Python code runs. So the place is chosen after it. */
    PyObject *shown = PyObject_CallOneArg(names->translate, key);
    if (shown == NULL || size > NAME_MAX_SIZE) {
        Py_DECREF(key);
        return shown;
    }
    Entry *entry = NULL;
    for (int way = 0; way < WAYS && entry == NULL; way++) {
        if (set[way].name == NULL) {
            entry = &set[way];
        }
    }
    if (entry == NULL) {
        entry = &set[names->turn++ % WAYS];
    }
    Entry old = *entry;
    *entry = (Entry){.name = key, .shown = Py_NewRef(shown)};
    /* The entry is whole again before these run code of an object that dies. */
    Py_XDECREF(old.name);
    Py_XDECREF(old.shown);
    return shown;
}

static PyObject *
names_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"translate", NULL};
    PyObject *translate;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:Names", keywords, &translate)) {
        return NULL;
    }
    Names *names = (Names *)type->tp_alloc(type, 0); /* filled with zeros */
    if (names != NULL) {
        names->translate = Py_NewRef(translate);
    }
    return (PyObject *)names;
}

static int
names_traverse(PyObject *self, visitproc visit, void *arg)
{
    Names *names = (Names *)self;
    Py_VISIT(Py_TYPE(self)); /* instances of a heap type own a reference to it */
    Py_VISIT(names->translate);
    for (int set = 0; set < SETS; set++) {
        for (int way = 0; way < WAYS; way++) {
            Py_VISIT(names->sets[set][way].shown);
        }
    }
    return 0;
}

static int
names_clear(PyObject *self)
{
    Names *names = (Names *)self;
    Py_CLEAR(names->translate);
    for (int set = 0; set < SETS; set++) {
        for (int way = 0; way < WAYS; way++) {
            Py_CLEAR(names->sets[set][way].name);
            Py_CLEAR(names->sets[set][way].shown);
        }
    }
    return 0;
}

static void
names_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    names_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyObject *
names_subscript(PyObject *self, PyObject *name)
{
    if (!PyBytes_Check(name)) {
        return PyErr_Format(PyExc_TypeError, "a field name is bytes, not %R", name);
    }
    return shown_name((Names *)self, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name));
}

static PyType_Slot names_slots[] = {
    {Py_tp_doc, "Names(translate): what an app sees for a field name, names[name]."},
    {Py_tp_new, names_new},
    {Py_tp_traverse, names_traverse},
    {Py_tp_clear, names_clear},
    {Py_tp_dealloc, names_dealloc},
    {Py_mp_subscript, names_subscript},
    {0, NULL},
};

static PyType_Spec names_spec = {
    .name = "reactor_run.protocol._head.Names",
    .basicsize = sizeof(Names),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = names_slots,
};

/* Head ------------------------------------------------------------------------------------------ */

/* An accepted head. It refers only to bytes, int and bool, so it is in no cycle and needs no garbage
 * collection. The number of `fields` is its ob_size.
 *
 * What each request is asked for is kept as objects: Python reads such a member at a fixed offset,
 * in a tenth of the time that a getter or a C number takes. */
typedef struct {
    PyObject_VAR_HEAD
    PyObject *data; /* bytes: the head, and nothing after it */
    PyObject *method;
    PyObject *size;
    PyObject *body;
    PyObject *minor_version;
    PyObject *keep_alive;
    PyObject *upgrade;    /* False */
    char minor;           /* `minor_version` */
    char expect_continue; /* false; a reactor may set it */
    uint16_t method_size;
    uint16_t target;
    uint16_t target_size;
    uint16_t path_size;
    Field fields[];
} Head;

static inline const char *
text_of(Head *head)
{
    return PyBytes_AS_STRING(head->data);
}

static State *
state_of(Head *head)
{
    /* Head has no subclasses, so this is the type that the module made. */
    return PyType_GetModuleState(Py_TYPE(head));
}

/* Return the index in METHODS, or METHOD_COUNT. */
static int
method_index(const char *method, size_t size)
{
    int index = 0;
    while (index < METHOD_COUNT &&
           (strlen(METHODS[index]) != size || memcmp(METHODS[index], method, size) != 0)) {
        index++;
    }
    return index;
}

static PyObject *
method_text(Head *head)
{
    int index = method_index(text_of(head), head->method_size);
    if (index < METHOD_COUNT) {
        return Py_NewRef(state_of(head)->methods_text[index]);
    }
    return PyUnicode_DecodeLatin1(text_of(head), head->method_size, NULL);
}

static PyObject *
method_bytes(State *state, const char *method, size_t size)
{
    int index = method_index(method, size);
    return index < METHOD_COUNT ? Py_NewRef(state->methods_bytes[index])
                                : PyBytes_FromStringAndSize(method, (Py_ssize_t)size);
}

static void
head_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Head *head = (Head *)self;
    Py_XDECREF(head->data);
    Py_XDECREF(head->method);
    Py_XDECREF(head->size);
    Py_XDECREF(head->body);
    Py_XDECREF(head->minor_version);
    Py_XDECREF(head->keep_alive);
    Py_XDECREF(head->upgrade);
    PyObject_Free(self);
    Py_DECREF(type);
}

static Head *
head_of(State *state, const Reading *reading, PyObject *data)
{
    const char *start = (const char *)reading->start;
    Py_ssize_t size = reading->at - reading->start;
    Head *head = PyObject_NewVar(Head, state->head_type, reading->count);
    if (head == NULL) {
        return NULL;
    }
    /* What follows the head may be a large body. It must not live as long as the head. */
    head->data = size == PyBytes_GET_SIZE(data) ? Py_NewRef(data)
                                                : PyBytes_FromStringAndSize(start, size);
    head->method = method_bytes(state, start, reading->method_size);
    head->size = PyLong_FromSsize_t(size);
    head->body = PyLong_FromLongLong(reading->length);
    head->minor_version = PyLong_FromLong(reading->minor_version);
    /* RFC 9112 §9.3: "close" outweighs, then the version and "keep-alive" count. */
    head->keep_alive =
        PyBool_FromLong(!reading->close && (reading->minor_version == 1 || reading->keep_alive));
    head->upgrade = Py_NewRef(Py_False);
    if (head->data == NULL || head->method == NULL || head->size == NULL || head->body == NULL ||
        head->minor_version == NULL) {
        Py_DECREF(head);
        return NULL;
    }
    head->minor = (char)reading->minor_version;
    head->expect_continue = false;
    head->method_size = reading->method_size;
    head->target = reading->target;
    head->target_size = reading->target_size;
    head->path_size = reading->path_size;
    memcpy(head->fields, reading->fields, (size_t)reading->count * sizeof(Field));
    return head;
}

static PyObject *
head_target(PyObject *self, void *Py_UNUSED(closure))
{
    Head *head = (Head *)self;
    return PyBytes_FromStringAndSize(text_of(head) + head->target, head->target_size);
}

/* The request line, without its line end. */
static PyObject *
head_line(PyObject *self, void *Py_UNUSED(closure))
{
    Head *head = (Head *)self;
    enum { VERSION = sizeof " HTTP/1.1" - 1 };
    return PyBytes_FromStringAndSize(text_of(head), head->target + head->target_size + VERSION);
}

static PyObject *
value_of(Head *head, const Field *field)
{
    return PyBytes_FromStringAndSize(text_of(head) + field->value, field->value_size);
}

/* Return (name, value), or NULL with an exception. Takes over the reference to `name`, which may be
 * NULL. */
static PyObject *
pair_of(PyObject *name, Head *head, const Field *field)
{
    PyObject *value = name != NULL ? value_of(head, field) : NULL;
    PyObject *pair = value != NULL ? PyTuple_New(2) : NULL;
    if (pair == NULL) {
        Py_XDECREF(name);
        Py_XDECREF(value);
        return NULL;
    }
    PyTuple_SET_ITEM(pair, 0, name);
    PyTuple_SET_ITEM(pair, 1, value);
    return pair;
}

static PyObject *
head_fields(PyObject *self, void *Py_UNUSED(closure))
{
    Head *head = (Head *)self;
    PyObject *fields = PyTuple_New(Py_SIZE(head));
    for (Py_ssize_t i = 0; fields != NULL && i < Py_SIZE(head); i++) {
        const Field *field = &head->fields[i];
        PyObject *name = PyBytes_FromStringAndSize(text_of(head) + field->name, field->name_size);
        PyObject *pair = pair_of(name, head, field);
        if (pair == NULL) {
            Py_CLEAR(fields);
        } else {
            PyTuple_SET_ITEM(fields, i, pair);
        }
    }
    return fields;
}

/* Return the last field of this name, in lower case; NULL if there is none. */
static const Field *
last_field(Head *head, const char *lower, Py_ssize_t size)
{
    for (Py_ssize_t i = Py_SIZE(head); i-- > 0;) {
        const Field *field = &head->fields[i];
        const char *name = text_of(head) + field->name;
        Py_ssize_t same = 0;
        if (field->name_size != size) {
            continue;
        }
        while (same < size && Py_TOLOWER(name[same]) == lower[same]) {
            same++;
        }
        if (same == size) {
            return field;
        }
    }
    return NULL;
}

static PyObject *
head_values(PyObject *self, PyObject *names)
{
    Head *head = (Head *)self;
    if (!PyTuple_CheckExact(names)) {
        PyErr_Format(PyExc_TypeError, "names are a tuple, not %R", names);
        return NULL;
    }
    Py_ssize_t count = PyTuple_GET_SIZE(names);
    PyObject *values = PyList_New(count);
    for (Py_ssize_t i = 0; values != NULL && i < count; i++) {
        char *lower;
        Py_ssize_t size;
        PyObject *value = NULL;
        if (PyBytes_AsStringAndSize(PyTuple_GET_ITEM(names, i), &lower, &size) == 0) {
            const Field *field = last_field(head, lower, size);
            value = field != NULL ? value_of(head, field) : PyBytes_FromStringAndSize(NULL, 0);
        }
        if (value == NULL) {
            Py_CLEAR(values);
        } else {
            PyList_SET_ITEM(values, i, value);
        }
    }
    return values;
}

/* Return `names` as Names, or NULL with an exception. */
static Names *
names_of(Head *head, PyObject *names)
{
    if (!Py_IS_TYPE(names, state_of(head)->names_type)) {
        PyErr_Format(PyExc_TypeError, "names are a Names, not %R", names);
        return NULL;
    }
    return (Names *)names;
}

/* Return where the query begins in the target: after the "?", or at the end. */
static Py_ssize_t
query_of(Head *head)
{
    return head->path_size < head->target_size ? head->path_size + 1 : head->target_size;
}

/* Set a key of a dict. Takes over the reference to `value`, which may be NULL. */
static bool
put(PyObject *dict, PyObject *key, PyObject *value)
{
    bool done = value != NULL && PyDict_SetItem(dict, key, value) == 0;
    Py_XDECREF(value);
    return done;
}

/* Return the list of headers for an ASGI scope. */
static PyObject *
shown_fields(Head *head, Names *names)
{
    PyObject *headers = PyList_New(Py_SIZE(head));
    if (headers == NULL) {
        return NULL;
    }
    Py_ssize_t count = 0;
    for (Py_ssize_t i = 0; i < Py_SIZE(head); i++) {
        const Field *field = &head->fields[i];
        PyObject *shown = shown_name(names, text_of(head) + field->name, field->name_size);
        if (shown != NULL && !PyBytes_CheckExact(shown)) {
            PyErr_Format(PyExc_TypeError, "a name in a scope is bytes, not %R", shown);
            Py_CLEAR(shown);
        }
        if (shown != NULL && PyBytes_GET_SIZE(shown) == 0) {
            Py_DECREF(shown); /* the field is not for the app */
            continue;
        }
        PyObject *pair = pair_of(shown, head, field);
        if (pair == NULL) {
            Py_DECREF(headers);
            return NULL;
        }
        PyList_SET_ITEM(headers, count++, pair);
    }
    /* The items from `count` on are still NULL, which a list may hold until Python code sees it. */
    if (count < Py_SIZE(head) && PyList_SetSlice(headers, count, Py_SIZE(head), NULL) < 0) {
        Py_CLEAR(headers);
    }
    return headers;
}

/* Set the origin of the request. */
static bool
put_origin(State *state, PyObject *scope, PyObject *origin)
{
    if (!PyTuple_Check(origin) || PyTuple_GET_SIZE(origin) < 3) {
        PyErr_SetString(PyExc_TypeError, "an origin has three items");
        return false;
    }
    return PyDict_SetItem(scope, state->keys[CLIENT], PyTuple_GET_ITEM(origin, 0)) == 0 &&
           PyDict_SetItem(scope, state->keys[SERVER], PyTuple_GET_ITEM(origin, 1)) == 0 &&
           PyDict_SetItem(scope, state->keys[SCHEME], PyTuple_GET_ITEM(origin, 2)) == 0;
}

/* Set copies of the dicts that the template has under these keys: an app may change them. */
static bool
put_copies(State *state, PyObject *scope)
{
    static const int copied[] = {ASGI, STATE, EXTENSIONS};
    for (size_t i = 0; i < sizeof copied / sizeof *copied; i++) {
        PyObject *key = state->keys[copied[i]];
        PyObject *shared = PyDict_GetItemWithError(scope, key); /* borrowed */
        if (shared != NULL && !PyDict_Check(shared)) {
            PyErr_Format(PyExc_TypeError, "%R of a template is a dict, not %R", key, shared);
        } else if (shared != NULL) {
            put(scope, key, PyDict_Copy(shared));
        }
        if (PyErr_Occurred()) {
            return false;
        }
    }
    return true;
}

static PyObject *
head_scope(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    Head *head = (Head *)self;
    if (count != 3 || !PyDict_CheckExact(args[0])) {
        PyErr_SetString(PyExc_TypeError, "scope takes a dict, a Names and a tuple");
        return NULL;
    }
    Names *names = names_of(head, args[1]);
    PyObject *scope = names != NULL ? PyDict_Copy(args[0]) : NULL;
    if (scope == NULL) {
        return NULL;
    }
    State *state = state_of(head);
    const char *path = text_of(head) + head->target;
    Py_ssize_t query = query_of(head);
    PyObject *version = state->versions[(int)head->minor];
    bool done =
        PyDict_SetItem(scope, state->keys[HTTP_VERSION], version) == 0 &&
        put(scope, state->keys[METHOD], method_text(head)) &&
        /* The path is ASCII without escapes, so it is its own UTF-8. */
        put(scope, state->keys[PATH], PyUnicode_DecodeLatin1(path, head->path_size, NULL)) &&
        put(scope, state->keys[RAW_PATH], PyBytes_FromStringAndSize(path, head->path_size)) &&
        put(scope, state->keys[QUERY],
            PyBytes_FromStringAndSize(path + query, head->target_size - query)) &&
        put(scope, state->keys[HEADERS], shown_fields(head, names)) &&
        put_origin(state, scope, args[2]) && put_copies(state, scope);
    if (!done) {
        Py_CLEAR(scope);
    }
    return scope;
}

/* Set the variables that are no fields (RFC 3875 §4.1). */
static bool
put_request_line(Head *head, PyObject *environ)
{
    State *state = state_of(head);
    const char *target = text_of(head) + head->target;
    Py_ssize_t query = query_of(head);
    PyObject *uri = PyUnicode_DecodeLatin1(target, head->target_size, NULL);
    PyObject *protocol = state->protocols[(int)head->minor];
    bool done =
        uri != NULL && PyDict_SetItem(environ, state->keys[REQUEST_URI], uri) == 0 &&
        PyDict_SetItem(environ, state->keys[RAW_URI], uri) == 0 &&
        PyDict_SetItem(environ, state->keys[SERVER_PROTOCOL], protocol) == 0 &&
        put(environ, state->keys[REQUEST_METHOD], method_text(head)) &&
        put(environ, state->keys[PATH_INFO],
            PyUnicode_DecodeLatin1(target, head->path_size, NULL)) &&
        put(environ, state->keys[QUERY_STRING],
            PyUnicode_DecodeLatin1(target + query, head->target_size - query, NULL));
    Py_XDECREF(uri);
    return done;
}

/* Whether an end of a connection is a host and a port. */
static bool
is_address(PyObject *end)
{
    return PyTuple_CheckExact(end) && PyTuple_GET_SIZE(end) == 2 &&
           PyUnicode_CheckExact(PyTuple_GET_ITEM(end, 0)) &&
           PyLong_CheckExact(PyTuple_GET_ITEM(end, 1));
}

/* Set the variables of the two ends of the connection. Does nothing if an end is unknown, or is no
 * plain address, or if the client speaks TLS or HTTP/2: then Python sets them. */
static bool
put_ends(State *state, PyObject *environ, PyObject *origin)
{
    if (!PyTuple_Check(origin) || PyTuple_GET_SIZE(origin) != 5) {
        PyErr_SetString(PyExc_TypeError, "an origin has five items");
        return false;
    }
    PyObject *const *items = &PyTuple_GET_ITEM(origin, 0);
    PyObject *client = items[0], *server = items[1], *scheme = items[2];
    if (!is_address(client) || !is_address(server) || !PyUnicode_CheckExact(scheme) ||
        PyUnicode_CompareWithASCIIString(scheme, "http") != 0 || items[3] != Py_None || items[4] != Py_False ||
        PyUnicode_FindChar(PyTuple_GET_ITEM(server, 0), ':', 0, PY_SSIZE_T_MAX, 1) != -1) {
        return true;
    }
    return PyDict_SetItem(environ, state->keys[REMOTE_ADDR], PyTuple_GET_ITEM(client, 0)) == 0 &&
           put(environ, state->keys[REMOTE_PORT], PyObject_Str(PyTuple_GET_ITEM(client, 1))) &&
           PyDict_SetItem(environ, state->keys[SERVER_NAME], PyTuple_GET_ITEM(server, 0)) == 0 &&
           put(environ, state->keys[SERVER_PORT], PyObject_Str(PyTuple_GET_ITEM(server, 1)));
}

/* Set the variable of a field, if it is for the app. Adds to `count` how many were set. */
static bool
put_field(Head *head, const Field *field, Names *names, PyObject *environ, Py_ssize_t *count)
{
    PyObject *key = shown_name(names, text_of(head) + field->name, field->name_size);
    if (key == NULL) {
        return false;
    }
    bool done = true;
    if (!PyUnicode_CheckExact(key)) {
        PyErr_Format(PyExc_TypeError, "a key of an environ is a str, not %R", key);
        done = false;
    } else if (PyUnicode_GET_LENGTH(key) > 0) {
        const char *value = text_of(head) + field->value;
        done = put(environ, key, PyUnicode_DecodeLatin1(value, field->value_size, NULL));
        *count += 1;
    }
    Py_DECREF(key);
    return done;
}

static PyObject *
head_environ(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    Head *head = (Head *)self;
    if (count != 3 || !PyDict_CheckExact(args[0])) {
        PyErr_SetString(PyExc_TypeError, "environ takes a dict, a Names and a tuple");
        return NULL;
    }
    Names *names = names_of(head, args[1]);
    PyObject *environ = names != NULL ? PyDict_Copy(args[0]) : NULL;
    if (environ == NULL) {
        return NULL;
    }
    bool done = put_request_line(head, environ) && put_ends(state_of(head), environ, args[2]);
    Py_ssize_t expected = PyDict_GET_SIZE(environ);
    for (Py_ssize_t i = 0; done && i < Py_SIZE(head); i++) {
        done = put_field(head, &head->fields[i], names, environ, &expected);
    }
    if (!done) {
        Py_CLEAR(environ);
    } else if (PyDict_GET_SIZE(environ) != expected) {
        /* A key was set twice. To join the values is left to Python. */
        Py_DECREF(environ);
        Py_RETURN_NONE;
    }
    return environ;
}

static PyMemberDef head_members[] = {
    {"method", T_OBJECT_EX, offsetof(Head, method), READONLY, NULL},
    {"size", T_OBJECT_EX, offsetof(Head, size), READONLY, NULL},
    {"body", T_OBJECT_EX, offsetof(Head, body), READONLY, NULL},
    {"minor_version", T_OBJECT_EX, offsetof(Head, minor_version), READONLY, NULL},
    {"keep_alive", T_OBJECT_EX, offsetof(Head, keep_alive), READONLY, NULL},
    {"upgrade", T_OBJECT_EX, offsetof(Head, upgrade), READONLY, NULL},
    {"expect_continue", T_BOOL, offsetof(Head, expect_continue), 0, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyGetSetDef head_getset[] = {
    {"target", head_target, NULL, NULL, NULL},
    {"fields", head_fields, NULL, NULL, NULL},
    {"line", head_line, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef head_methods[] = {
    {"scope", (PyCFunction)(void (*)(void))head_scope, METH_FASTCALL,
     "scope(template, names, origin): a new ASGI scope."},
    {"environ", (PyCFunction)(void (*)(void))head_environ, METH_FASTCALL,
     "environ(template, names, origin): a new WSGI environ, or None: Python must build it."},
    {"values", head_values, METH_O,
     "values(names): the value of the last field of each name, or b\"\"."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot head_slots[] = {
    {Py_tp_doc, "A request's head that read_head has accepted."},
    {Py_tp_dealloc, head_dealloc},
    {Py_tp_members, head_members},
    {Py_tp_getset, head_getset},
    {Py_tp_methods, head_methods},
    {0, NULL},
};

static PyType_Spec head_spec = {
    .name = "reactor_run.protocol._head.Head",
    .basicsize = sizeof(Head),
    .itemsize = sizeof(Field),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = head_slots,
};

/* The module ------------------------------------------------------------------------------------ */

static bool
read_bounds(PyObject *argument, Bounds *bounds)
{
    long long *members[] = {&bounds->request_line, &bounds->field_count, &bounds->field_size,
                            &bounds->head_size, &bounds->body_size};
    enum { MEMBERS = sizeof members / sizeof *members };
    if (!PyTuple_CheckExact(argument) || PyTuple_GET_SIZE(argument) != MEMBERS) {
        PyErr_Format(PyExc_TypeError, "bounds are a tuple of %d numbers", MEMBERS);
        return false;
    }
    for (int i = 0; i < MEMBERS; i++) {
        *members[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(argument, i));
        if (*members[i] == -1 && PyErr_Occurred()) {
            return false;
        }
    }
    return true;
}

static PyObject *
read_head(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2 || !PyBytes_CheckExact(args[0])) {
        PyErr_SetString(PyExc_TypeError, "read_head takes bytes and bounds");
        return NULL;
    }
    PyObject *data = args[0];
    const byte *start = (const byte *)PyBytes_AS_STRING(data);
    Reading reading; /* its fields need no zeros: `count` says how many there are */
    memset(&reading, 0, offsetof(Reading, fields));
    reading.start = start;
    reading.end = start + PyBytes_GET_SIZE(data);
    if (!read_bounds(args[1], &reading.bounds)) {
        return NULL;
    }
    if (!read_whole(&reading)) {
        Py_RETURN_NONE;
    }
    return (PyObject *)head_of(PyModule_GetState(module), &reading, data);
}

static PyMethodDef module_methods[] = {
    {"read_head", (PyCFunction)(void (*)(void))read_head, METH_FASTCALL,
     "read_head(data, bounds): the head at the start of data, or None: the policy must decide."},
    {NULL, NULL, 0, NULL},
};

static bool
intern(PyObject **made, const char *const *texts, int count)
{
    for (int i = 0; i < count; i++) {
        made[i] = PyUnicode_InternFromString(texts[i]);
        if (made[i] == NULL) {
            return false;
        }
    }
    return true;
}

static bool
make_objects(State *state)
{
    for (int i = 0; i < METHOD_COUNT; i++) {
        state->methods_bytes[i] = PyBytes_FromString(METHODS[i]);
        if (state->methods_bytes[i] == NULL) {
            return false;
        }
    }
    return intern(state->methods_text, METHODS, METHOD_COUNT) &&
           intern(state->keys, KEYS, KEY_COUNT) && intern(state->versions, VERSIONS, 2) &&
           intern(state->protocols, PROTOCOLS, 2);
}

static PyTypeObject *
add_type(PyObject *module, PyType_Spec *spec)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    if (type != NULL && PyModule_AddType(module, (PyTypeObject *)type) < 0) {
        Py_CLEAR(type);
    }
    return (PyTypeObject *)type;
}

static int
module_exec(PyObject *module)
{
    State *state = PyModule_GetState(module); /* filled with zeros */
    state->head_type = add_type(module, &head_spec);
    state->names_type = add_type(module, &names_spec);
    bool done = state->head_type != NULL && state->names_type != NULL && make_objects(state);
    return done ? 0 : -1;
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    State *state = PyModule_GetState(module);
    Py_VISIT(state->head_type);
    Py_VISIT(state->names_type);
    return 0; /* the other objects are bytes and str, which refer to nothing */
}

static void
clear(PyObject **made, int count)
{
    for (int i = 0; i < count; i++) {
        Py_CLEAR(made[i]);
    }
}

static int
module_clear(PyObject *module)
{
    State *state = PyModule_GetState(module);
    Py_CLEAR(state->head_type);
    Py_CLEAR(state->names_type);
    clear(state->methods_bytes, METHOD_COUNT);
    clear(state->methods_text, METHOD_COUNT);
    clear(state->keys, KEY_COUNT);
    clear(state->versions, 2);
    clear(state->protocols, 2);
    return 0;
}

static void
module_free(void *module)
{
    module_clear(module);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#if PY_VERSION_HEX >= 0x030C0000
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, NULL},
};

static PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "reactor_run.protocol._head",
    .m_doc = "Reads the common case of a request head. The policy in Python decides the rest.",
    .m_size = sizeof(State),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC
PyInit__head(void)
{
    return PyModuleDef_Init(&module_def);
}
