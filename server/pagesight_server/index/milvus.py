"""The engine on Milvus: its index chooses candidates, their true cosines are taken here.

    put ──fp16──> collection ──GPU_IVF_PQ, IVF_PQ or FLAT──> k x k_factor, with vectors ─> k

Needs `pip install 'pagesight[milvus]'`. docs/operations.md says how to point it at a cluster.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pymilvus import DataType, MilvusClient

from pagesight_server.common.arrays import Embedding
from pagesight_server.index.engine import Near, Stored
from pagesight_server.index.exact import cosines, ranked

MAX_LIMIT = 16_384
"""Results that Milvus gives for one query at most (`proxy.topKLimit`)."""


class MilvusEngine:
    """The engine on a Milvus server, or on milvus-lite for tests.

    Args:
        uri: `http://host:19530`, or the file of an embedded milvus-lite.
        collection: Where the pictures lie; made when missing.
        dimension: Of the embeddings.
        index: `index_type` and `params` as Milvus names them.
        search: Its search parameters, such as `nprobe`.
        k_factor: Candidates for each picture that is wanted; more where the index approximates.
        token: `user:password`, where the server asks for it.
    """

    def __init__(
        self,
        uri: str,
        collection: str,
        dimension: int,
        *,
        index: Mapping[str, Any] | None = None,
        search: Mapping[str, Any] | None = None,
        k_factor: int = 10,
        token: str = "",
    ) -> None:
        # Else closing it leaves the connection in a pool, and probes it for ever.
        self._client = MilvusClient(uri=uri, token=token, dedicated=True)
        self._collection = collection
        self._search = dict(search or {})
        self._k_factor = k_factor
        if not self._client.has_collection(collection):
            schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
            schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
            # 128 characters of at most 4 bytes each.
            schema.add_field("label", DataType.VARCHAR, max_length=512)
            schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimension)
            parameters = self._client.prepare_index_params()
            chosen = dict(index or {"index_type": "FLAT"})
            parameters.add_index("vector", metric_type="COSINE", **chosen)
            self._client.create_collection(
                collection, schema=schema, index_params=parameters, consistency_level="Strong"
            )
        self._client.load_collection(collection)

    def put(self, pictures: Sequence[Stored]) -> None:
        """Adds pictures; one that is there gets the new label and embedding."""
        rows = [
            {
                "id": picture.image_id,
                "label": picture.label,
                "vector": picture.embedding.astype(np.float16).astype(np.float32).tolist(),
            }
            for picture in {picture.image_id: picture for picture in pictures}.values()
        ]
        if rows:
            self._client.upsert(self._collection, rows)

    def remove(self, image_ids: Sequence[str]) -> None:
        """Takes pictures out; those that are not there are left alone."""
        if image_ids:
            self._client.delete(self._collection, ids=list(dict.fromkeys(image_ids)))

    def search(self, query: Embedding, k: int, *, without: str = "") -> list[Near]:
        """The `k` nearest, or all when there are fewer, nearest first, ties by id."""
        (found,) = self._client.search(
            self._collection,
            data=[query.tolist()],
            limit=min(MAX_LIMIT, max(k + 8, k * self._k_factor)),
            filter=f"id != {json.dumps(without)}" if without else "",
            output_fields=["label", "vector"],
            search_params={"metric_type": "COSINE", "params": self._search},
            consistency_level="Strong",
        )
        if not found:
            return []
        rows = sorted((hit["entity"] | {"id": hit["id"]} for hit in found), key=lambda r: r["id"])
        scores = cosines(query, np.asarray([row["vector"] for row in rows], np.float32))
        hits = ranked(np.arange(len(rows), dtype=np.int64), scores, k)
        return [
            Near(rows[place]["id"], rows[place]["label"], cosine)
            for place, cosine in zip(hits.rows.tolist(), hits.cosines.tolist(), strict=True)
        ]

    def close(self) -> None:
        """Ends the connection."""
        self._client.close()
