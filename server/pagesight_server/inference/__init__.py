"""From bytes to pixels to embedding and text: decoding, bundles, batching, model sessions.

This package alone imports onnxruntime, cv2 and PIL.
"""
