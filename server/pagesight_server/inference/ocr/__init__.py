"""Pixels to text lines, with an OCR bundle.

engine.py             the way of one picture; read this first
  ├── tiling.py       tall pictures in bands
  ├── detector.py     pixels -> regions       (the only importer of rapidocr)
  ├── line_pool.py    the lines of all pictures in flight, in batches
  └── recogniser.py   a batch -> texts
settings.py           what reading may cost, and how close it keeps to the library
"""

from pagesight_server.inference.ocr.engine import OcrEngine, load
from pagesight_server.inference.ocr.settings import OcrSettings

__all__ = ["OcrEngine", "OcrSettings", "load"]
