// Before htmx, which notes the path in the browser's storage: nothing is stored.
"use strict";
Storage.prototype.setItem = () => { throw new DOMException("nothing is stored", "QuotaExceededError"); };
