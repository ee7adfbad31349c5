"""Bytes to pixels to embedding and text: decoding, bundles, batching, the model runtime.

This package alone imports onnxruntime, cv2 and PIL.
"""
