/* Receives and sends on a socket without waiting. Each request needs one call of each.
 *
 * socket.recv makes a bytes object of the greatest size first, and shrinks it. And like socket.send
 * it gives up the interpreter's lock (GIL), because it may wait. These calls never wait, so they
 * keep the lock. They raise what the methods of a socket raise.
 *
 * The socket is asked for its descriptor each time. If it is closed, it has none. If its number were
 * kept instead, bytes might go to another client.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <sys/socket.h>

enum { RECEIVE_MAX = 65536 };

/* Each interpreter has its own module, and so its own objects. */
typedef struct {
    char space[RECEIVE_MAX]; /* what is received, until it is copied into an object */
} State;

/* It needs no garbage collection: a socket refers to nothing that could refer to it. */
typedef struct {
    PyObject_HEAD
    PyObject *fileno; /* the method of the socket */
} SocketCalls;

/* Return the descriptor of the socket; -1: it is closed, or there is an exception. */
static int
descriptor_of(PyObject *self)
{
    PyObject *number = PyObject_CallNoArgs(((SocketCalls *)self)->fileno);
    if (number == NULL) {
        return -1;
    }
    int descriptor = (int)PyLong_AsLong(number);
    Py_DECREF(number);
    return descriptor;
}

static PyObject *
calls_recv(PyObject *self, PyObject *argument)
{
    Py_ssize_t size = PyLong_AsSsize_t(argument);
    if (size < 0) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_ValueError, "a size is not negative");
        }
        return NULL;
    }
    int descriptor = descriptor_of(self);
    if (PyErr_Occurred()) {
        return NULL;
    }
    char *space = ((State *)PyType_GetModuleState(Py_TYPE(self)))->space;
    ssize_t received;
    do {
        received = recv(descriptor, space, size < RECEIVE_MAX ? size : RECEIVE_MAX, MSG_DONTWAIT);
    } while (received < 0 && errno == EINTR);
    return received < 0 ? PyErr_SetFromErrno(PyExc_OSError)
                        : PyBytes_FromStringAndSize(space, received);
}

static PyObject *
calls_send(PyObject *self, PyObject *data)
{
    int descriptor = descriptor_of(self);
    Py_buffer view;
    if (PyErr_Occurred() || PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    ssize_t sent;
    do {
        sent = send(descriptor, view.buf, (size_t)view.len, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    PyObject *result = sent < 0 ? PyErr_SetFromErrno(PyExc_OSError) : PyLong_FromSsize_t(sent);
    PyBuffer_Release(&view);
    return result;
}

static PyObject *
calls_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *sock;
    static char *names[] = {"", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:SocketCalls", names, &sock)) {
        return NULL;
    }
    SocketCalls *calls = (SocketCalls *)type->tp_alloc(type, 0);
    if (calls == NULL) {
        return NULL;
    }
    calls->fileno = PyObject_GetAttrString(sock, "fileno");
    if (calls->fileno == NULL) {
        Py_CLEAR(calls);
    }
    return (PyObject *)calls;
}

static void
calls_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(((SocketCalls *)self)->fileno);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef calls_methods[] = {
    {"recv", calls_recv, METH_O,
     "recv(size): at most `size` bytes that have arrived; none at all: FIN."},
    {"send", calls_send, METH_O,
     "send(data): send what the kernel takes; return the number of bytes."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot calls_slots[] = {
    {Py_tp_new, calls_new},
    {Py_tp_dealloc, calls_dealloc},
    {Py_tp_methods, calls_methods},
    {0, NULL},
};

static PyType_Spec calls_spec = {
    .name = "reactor_run._sockets.SocketCalls",
    .basicsize = sizeof(SocketCalls),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = calls_slots,
};

/* The module ------------------------------------------------------------------------------------ */

static int
module_exec(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &calls_spec, NULL);
    if (type == NULL) {
        return -1;
    }
    int failed = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return failed;
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
    .m_name = "reactor_run._sockets",
    .m_doc = "Receives and sends on a socket without waiting.",
    .m_size = sizeof(State),
    .m_slots = module_slots,
};

PyMODINIT_FUNC
PyInit__sockets(void)
{
    return PyModuleDef_Init(&module_def);
}
