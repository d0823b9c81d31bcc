# ruff: noqa: ANN001, ANN201, ANN202 - kernels are compiled for what they are called with
# mypy: disable-error-code="no-untyped-def, no-untyped-call"
"""Packet headers: what the code-blocks of a tile are, and a tile with some of them left out.

A packet is a header, coded bit by bit with two tag trees for each subband, and the bytes of the
code-blocks it names (ITU-T T.800, B.9 and B.10). Leaving a code-block out changes headers alone:
the bytes of the others are copied.
"""

from __future__ import annotations

import numpy as np

from cbm_extract.plan.compiled import kernel

# Columns of the table of code-blocks.
PASSES, ZEROS, LENGTH, OFFSET = range(4)
# Rows of a tag tree; the last holds the nodes from a leaf to the root.
_PARENT, _VALUE, _LOW, _KNOWN, _PATH = range(5)
# A bit stream: position of the next byte, the present byte, bits left of it, failed.
_AT, _BYTE, _LEFT, _FAILED = range(4)
_UNKNOWN = 1 << 30
_HOLE = 32  # bytes


@kernel
def parse(data, packets, grids, planes, blocks):
    """Read the packet headers of a tile.

    ``data`` uint8: the packets; ``packets`` and ``grids`` as ``geometry.precincts`` gives them;
    ``planes`` int64: bit-planes of each subband. Fills ``blocks`` int64 [code-blocks, 4]: coding
    passes (0: nothing is coded), missing bit-planes, bytes, and where they start in data. Returns
    whether the packets are valid, fill ``data`` exactly, and hold no trace of damage.
    """
    blocks[:] = 0
    bits = np.zeros(4, np.int64)
    inclusion, zeros = _trees(grids)
    position = g = 0
    for packet in range(packets):
        bits[:] = 0
        bits[_AT] = position
        filled = _bit(data, bits) == 1
        first = g
        while g < len(grids) and grids[g, 0] == packet:
            if filled:
                _read_grid(data, bits, grids[g], planes[grids[g, 1]], inclusion, zeros, blocks)
            g += 1
        if bits[_BYTE] == 0xFF:
            bits[_AT] += 1  # a stuffed byte follows
        position = bits[_AT]
        for h in range(first, g if filled else first):
            position = _place(grids[h], blocks, position)
        if bits[_FAILED] or position > len(data):
            return False
    return position == len(data) and _sound(data, blocks)


@kernel
def _sound(data, blocks):
    """Say whether the bytes of code-blocks can be what a coder wrote.

    The arithmetic coder never writes 0xFF before a byte above 0x8F (C.2), and what it writes is as
    good as random: a row of zeros is a hole in the file.
    """
    for block in range(len(blocks)):
        part = data[blocks[block, OFFSET] :][: blocks[block, LENGTH]]
        markers = 0
        for at in range(len(part) - 1):
            markers += (part[at] == 0xFF) & (part[at + 1] > 0x8F)
        if markers:
            return False
        for start in range(0, len(part) - _HOLE + 1, _HOLE):
            at = start
            while at < start + _HOLE and part[at] == 0:
                at += 1
            if at == start + _HOLE:
                return False
    return True


@kernel
def _place(grid, blocks, position):
    """Note where the bytes of a grid's code-blocks start."""
    for row in range(grid[5]):
        for col in range(grid[4]):
            block = grid[2] + row * grid[3] + col
            blocks[block, OFFSET] = position
            position += blocks[block, LENGTH]
    return position


@kernel
def _read_grid(data, bits, grid, planes, inclusion, zeros, blocks):
    _plant(inclusion, grid[4], grid[5])
    _plant(zeros, grid[4], grid[5])
    for row in range(grid[5]):
        for col in range(grid[4]):
            leaf = row * grid[4] + col
            if not _decode(data, bits, inclusion, leaf, 1):
                continue
            missing = 0
            while not _decode(data, bits, zeros, leaf, missing + 1):
                missing += 1
                if missing >= planes or bits[_FAILED]:
                    bits[_FAILED] = 1
                    return
            passes = _read_passes(data, bits)
            width = 3 + _log2(passes)
            while _bit(data, bits):
                width += 1
            if passes > 3 * (planes - missing) - 2 or width > 32:
                bits[_FAILED] = 1
                return
            block = grid[2] + row * grid[3] + col
            blocks[block, PASSES], blocks[block, ZEROS] = passes, missing
            blocks[block, LENGTH] = _bits(data, bits, width)


@kernel
def _trees(grids):
    """Return two tag trees that are large enough for every grid."""
    largest = 1
    for g in range(len(grids)):
        largest = max(largest, grids[g, 4] * grids[g, 5] + grids[g, 4] + grids[g, 5])
    shape = (5, 2 * largest + 64)
    return np.empty(shape, np.int64), np.empty(shape, np.int64)


@kernel
def _plant(tree, cols, rows):
    """Set up a tag tree over a grid of leaves, which come first, row by row."""
    start = 0
    while True:
        stop = start + cols * rows
        for row in range(rows):
            for col in range(cols):
                node = start + row * cols + col
                tree[_PARENT, node] = stop + (row >> 1) * ((cols + 1) >> 1) + (col >> 1)
                tree[_VALUE, node] = _UNKNOWN
                tree[_LOW, node] = 0
                tree[_KNOWN, node] = 0
        if cols * rows == 1:
            tree[_PARENT, start] = -1
            return
        start, cols, rows = stop, (cols + 1) >> 1, (rows + 1) >> 1


@kernel
def _climb(tree, leaf):
    """Note the nodes from the leaf to the root, return how many they are."""
    steps = 0
    while leaf >= 0:
        tree[_PATH, steps] = leaf
        leaf = tree[_PARENT, leaf]
        steps += 1
    return steps


@kernel
def _decode(data, bits, tree, leaf, threshold):
    """Read as much as tells whether the leaf's value is below the threshold."""
    low = 0
    for step in range(_climb(tree, leaf) - 1, -1, -1):
        node = tree[_PATH, step]
        low = max(low, tree[_LOW, node])
        while low < threshold and low < tree[_VALUE, node]:
            if _bit(data, bits):
                tree[_VALUE, node] = low
            else:
                low += 1
        tree[_LOW, node] = low
    return tree[_VALUE, leaf] < threshold


@kernel
def _bit(data, bits):
    if bits[_LEFT] == 0:
        stuffed = bits[_BYTE] == 0xFF
        if bits[_AT] >= len(data) or (stuffed and data[bits[_AT]] > 0x7F):
            bits[_FAILED] = 1
            return 0
        bits[_BYTE] = data[bits[_AT]]
        bits[_AT] += 1
        bits[_LEFT] = 7 if stuffed else 8
    bits[_LEFT] -= 1
    return (bits[_BYTE] >> bits[_LEFT]) & 1


@kernel
def _bits(data, bits, count):
    value = 0
    for _ in range(count):
        value = 2 * value + _bit(data, bits)
    return value


@kernel
def _read_passes(data, bits):
    """Read a number of coding passes (table B.4)."""
    if not _bit(data, bits):
        return 1
    if not _bit(data, bits):
        return 2
    value = _bits(data, bits, 2)
    if value < 3:
        return 3 + value
    value = _bits(data, bits, 5)
    if value < 31:
        return 6 + value
    return 37 + _bits(data, bits, 7)


@kernel
def _log2(value):
    exponent = 0
    while value > 1:
        value >>= 1
        exponent += 1
    return exponent


@kernel
def prune(data, packets, grids, blocks, keep, out):
    """Write the packets of a tile with the code-blocks to keep alone.

    ``blocks`` as ``parse`` filled it; ``keep`` uint8 [code-blocks]; ``out`` uint8, as long as
    data and 32 bytes for each code-block and packet. Returns how many bytes were written.
    """
    bits = np.zeros(4, np.int64)
    inclusion, zeros = _trees(grids)
    position = g = 0
    for packet in range(packets):
        first = g
        kept = False
        while g < len(grids) and grids[g, 0] == packet:
            kept = _any_kept(grids[g], blocks, keep) or kept
            g += 1
        bits[_AT], bits[_BYTE], bits[_LEFT] = position, 0, 8
        if not kept:
            out[position] = 0
            position += 1
            continue
        _put(out, bits, 1)
        for h in range(first, g):
            _write_grid(out, bits, grids[h], inclusion, zeros, blocks, keep)
        position = _finish(out, bits)
        for h in range(first, g):
            position = _copy(data, out, position, grids[h], blocks, keep)
    return position


@kernel
def _any_kept(grid, blocks, keep):
    for row in range(grid[5]):
        for col in range(grid[4]):
            block = grid[2] + row * grid[3] + col
            if keep[block] and blocks[block, PASSES]:
                return True
    return False


@kernel
def _copy(data, out, position, grid, blocks, keep):
    for row in range(grid[5]):
        for col in range(grid[4]):
            block = grid[2] + row * grid[3] + col
            if keep[block]:
                start, length = blocks[block, OFFSET], blocks[block, LENGTH]
                out[position : position + length] = data[start : start + length]
                position += length
    return position


@kernel
def _write_grid(out, bits, grid, inclusion, zeros, blocks, keep):
    _plant(inclusion, grid[4], grid[5])
    _plant(zeros, grid[4], grid[5])
    for row in range(grid[5]):
        for col in range(grid[4]):
            leaf, block = row * grid[4] + col, grid[2] + row * grid[3] + col
            kept = keep[block] and blocks[block, PASSES]
            _set(inclusion, leaf, 0 if kept else 1)
            if kept:
                _set(zeros, leaf, blocks[block, ZEROS])
    for row in range(grid[5]):
        for col in range(grid[4]):
            leaf, block = row * grid[4] + col, grid[2] + row * grid[3] + col
            _encode(out, bits, inclusion, leaf, 1)
            if not (keep[block] and blocks[block, PASSES]):
                continue
            for threshold in range(1, blocks[block, ZEROS] + 2):
                _encode(out, bits, zeros, leaf, threshold)
            passes, length = blocks[block, PASSES], blocks[block, LENGTH]
            _write_passes(out, bits, passes)
            width = 3 + _log2(passes)
            while length >> width:
                _put(out, bits, 1)
                width += 1
            _put(out, bits, 0)
            _put_bits(out, bits, length, width)


@kernel
def _set(tree, node, value):
    while node >= 0 and tree[_VALUE, node] > value:
        tree[_VALUE, node] = value
        node = tree[_PARENT, node]


@kernel
def _encode(out, bits, tree, leaf, threshold):
    """Write as much as tells whether the leaf's value is below the threshold."""
    low = 0
    for step in range(_climb(tree, leaf) - 1, -1, -1):
        node = tree[_PATH, step]
        low = max(low, tree[_LOW, node])
        while low < threshold and not tree[_KNOWN, node]:
            if low < tree[_VALUE, node]:
                _put(out, bits, 0)
                low += 1
            else:
                _put(out, bits, 1)
                tree[_KNOWN, node] = 1
        tree[_LOW, node] = low


@kernel
def _put(out, bits, bit):
    bits[_LEFT] -= 1
    bits[_BYTE] |= bit << bits[_LEFT]
    if bits[_LEFT] == 0:
        out[bits[_AT]] = bits[_BYTE]
        bits[_AT] += 1
        bits[_LEFT] = 7 if bits[_BYTE] == 0xFF else 8
        bits[_BYTE] = 0


@kernel
def _put_bits(out, bits, value, count):
    for shift in range(count - 1, -1, -1):
        _put(out, bits, (value >> shift) & 1)


@kernel
def _write_passes(out, bits, passes):
    """Write a number of coding passes (table B.4)."""
    if passes == 1:
        _put_bits(out, bits, 0, 1)
    elif passes == 2:
        _put_bits(out, bits, 2, 2)
    elif passes <= 5:
        _put_bits(out, bits, 0xC | (passes - 3), 4)
    elif passes <= 36:
        _put_bits(out, bits, 0x1E0 | (passes - 6), 9)
    else:
        _put_bits(out, bits, 0xFF80 | (passes - 37), 16)


@kernel
def _finish(out, bits):
    """Fill up the last byte of a header; one that ends in 0xFF is followed by a stuffed zero."""
    if bits[_LEFT] < 8:
        out[bits[_AT]] = bits[_BYTE]
        bits[_AT] += 1
    return bits[_AT]
