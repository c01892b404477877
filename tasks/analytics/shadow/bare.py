"""Arrays that compiled loops do not count: numba counts an array's users, atomically, at each call, variable or tuple.

That took half of the time of the walk. A bare array is a view that knows no owner: its source must outlive it.
"""

from llvmlite import ir
from numba import carray, njit, types  # type: ignore[attr-defined]
from numba.extending import intrinsic


@intrinsic
def _pointer(_typing, address):
    def generate(_context, builder, _signature, arguments):
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return types.voidptr(address), generate


@njit(inline="always")
def bare(array):
    """A view of a contiguous array without its owner."""
    return carray(_pointer(array.ctypes.data), array.shape, array.dtype)  # type: ignore[call-arg]


@njit(inline="always")
def bare_rows(array, columns):
    """The same of a table with so many columns, which the compiler then knows."""
    return carray(_pointer(array.ctypes.data), (array.shape[0], columns), array.dtype)  # type: ignore[call-arg]


@intrinsic
def _prefetch(_typing, address):
    def generate(_context, builder, _signature, arguments):
        word, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [pointer, word, word, word])
        function = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
        where = builder.inttoptr(arguments[0], pointer)
        builder.call(function, [where, word(0), word(3), word(1)])  # to read, into all caches, data
        return _context.get_dummy_value()

    return types.none(address), generate


@njit(inline="always")
def soon(array, item):
    """Have an item of 8 bytes on its way from memory, by the time that it is read."""
    _prefetch(array.ctypes.data + (item << 3))  # type: ignore[call-arg]
