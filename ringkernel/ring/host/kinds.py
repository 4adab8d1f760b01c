"""The two kinds of ring, and of edge: of Python objects, and of records."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from .object_ring import ObjectEdge, ObjectRing
    from .record_edge import RecordEdge
    from .record_ring import RecordRing

Ring: TypeAlias = "ObjectRing | RecordRing"
Edge: TypeAlias = "ObjectEdge | RecordEdge"
