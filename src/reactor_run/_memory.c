/* What Python cannot do with memory: change a word that processes share, so that no other process
 * sees or makes a change in between (offers.py, buffers.py), and tell malloc what to keep (heap.py).
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

/* Shared memory --------------------------------------------------------------------------------- */

static bool
read_word(PyObject *number, uint64_t *value)
{
    *value = PyLong_AsUnsignedLongLong(number);
    return !PyErr_Occurred();
}

static PyObject *
swap_word(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 4) {
        PyErr_SetString(PyExc_TypeError, "swap_word takes memory and three integers");
        return NULL;
    }
    uint64_t index, old, new;
    if (!read_word(args[1], &index) || !read_word(args[2], &old) || !read_word(args[3], &new)) {
        return NULL;
    }
    Py_buffer view;
    if (PyObject_GetBuffer(args[0], &view, PyBUF_WRITABLE) < 0) {
        return NULL;
    }
    bool swapped = false;
    if (index < (uint64_t)view.len / sizeof(uint64_t) && (uintptr_t)view.buf % sizeof old == 0) {
        uint64_t *word = (uint64_t *)view.buf + index;
        swapped = __atomic_compare_exchange_n(word, &old, new, false, __ATOMIC_SEQ_CST,
                                              __ATOMIC_SEQ_CST);
    } else {
        PyErr_SetString(PyExc_IndexError, "the word is outside of the memory");
    }
    PyBuffer_Release(&view);
    return PyErr_Occurred() ? NULL : PyBool_FromLong(swapped);
}

/* malloc ---------------------------------------------------------------------------------------- */

static PyObject *
set_malloc_bounds(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "set_malloc_bounds takes two integers");
        return NULL;
    }
    int bounds[2];
    for (int at = 0; at < 2; at++) {
        long bound = PyLong_AsLong(args[at]);
        if (PyErr_Occurred()) {
            return NULL;
        }
        if (bound < 0 || bound > INT_MAX) {
            PyErr_SetString(PyExc_ValueError, "a bound of malloc must fit into an int");
            return NULL;
        }
        bounds[at] = (int)bound;
    }
#ifdef __GLIBC__
    return PyBool_FromLong(mallopt(M_MMAP_THRESHOLD, bounds[0]) &&
                           mallopt(M_TRIM_THRESHOLD, bounds[1]));
#else
    return PyBool_FromLong(false);
#endif
}

/* The module ------------------------------------------------------------------------------------ */

static PyMethodDef module_methods[] = {
    {"swap_word", (PyCFunction)(void (*)(void))swap_word, METH_FASTCALL,
     "swap_word(memory, index, old, new): replace a word of 8 bytes, if it is `old`; whether."},
    {"set_malloc_bounds", (PyCFunction)(void (*)(void))set_malloc_bounds, METH_FASTCALL,
     "set_malloc_bounds(mapped, kept): set two bounds of glibc's malloc, in bytes; whether."},
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
    .m_name = "reactor_run._memory",
    .m_doc = "Swaps words of shared memory, and sets bounds of malloc.",
    .m_methods = module_methods,
    .m_slots = module_slots,
};

PyMODINIT_FUNC
PyInit__memory(void)
{
    return PyModuleDef_Init(&module_def);
}
