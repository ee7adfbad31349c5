"""Pixels to text lines, with an OCR bundle.

engine.py             one picture from pixels to lines; read this first
  ├── tiling.py       tall pictures in bands
  ├── detector.py     pixels -> regions       (the only importer of rapidocr)
  │     └── quads.py  probability map -> quads around lines
  ├── line_pool.py    the lines of all pictures in flight, batched by width
  │     └── line_queues.py   who waits for which of them
  └── recogniser.py   one batch of lines -> texts, by the draft or the recognition network
settings.py           what reading may cost, and how close it keeps to the library
"""

from pagesight_server.inference.ocr.engine import OcrEngine, load
from pagesight_server.inference.ocr.settings import OcrSettings

__all__ = ["OcrEngine", "OcrSettings", "load"]
