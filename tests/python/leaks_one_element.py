#!/usr/bin/env python3
"""Leaks one element on purpose: the control that the leaks tracer finds what there is to find."""

import ctypes

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402

Gst.init(None)
element = Gst.ElementFactory.make("sframeenc")
gobject = ctypes.CDLL("libgobject-2.0.so.0")
gobject.g_object_ref.argtypes = [ctypes.c_void_p]
gobject.g_object_ref.restype = ctypes.c_void_p
gobject.g_object_ref(hash(element))
del element
Gst.deinit()
