"""GalleryService: changes and lists galleries; every change is visible to the next query.

While the store is away whatever needs it is refused at once, with when to ask again.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from pagesight.v1 import gallery_pb2 as pb
from pagesight.v1 import gallery_pb2_grpc
from pagesight_server.common.errors import InvalidRequestError, StorageError
from pagesight_server.config_sections import ServerConfig
from pagesight_server.curation.diagnostics import diagnose, near_duplicates
from pagesight_server.curation.findings import findings
from pagesight_server.gallery import Applied, Change, Gallery
from pagesight_server.inference.settings import ImageLimits
from pagesight_server.service import (
    audit,
    convert,
    convert_curation,
    convert_findings,
    convert_galleries,
    paging,
)
from pagesight_server.service.auth import PEER
from pagesight_server.service.codec import Context, Malformed, answer
from pagesight_server.service.gates import (
    EnrolmentGate,
    ExaminationGate,
    in_store_thread,
)
from pagesight_server.service.progress import Report, answer_with_progress
from pagesight_server.workflows.enrolment import Enroller
from pagesight_server.workflows.registry import Registry

T = TypeVar("T")

log = logging.getLogger(__name__)


class GalleryService(gallery_pb2_grpc.GalleryServiceServicer):
    """Reads and changes galleries while the server runs."""

    def __init__(
        self,
        store: Gallery,
        enroller: Enroller,
        registry: Registry,
        config: ServerConfig,
        limits: ImageLimits | None = None,
    ) -> None:
        self._limits = limits or ImageLimits()
        self._store = store
        self._enroller = enroller
        self._registry = registry
        self._enrolments = EnrolmentGate(config)
        self._examinations = ExaminationGate(config)

    async def ListGalleries(  # noqa: N802
        self, request: pb.ListGalleriesRequest, context: Context
    ) -> pb.ListGalleriesResponse:
        """Answers one page of the galleries."""

        def work() -> pb.ListGalleriesResponse:
            size = paging.page_size(request.page_size)
            position = paging.position_of(request.page_token, str)
            galleries = self._store.galleries(after=position[0] if position else "", limit=size + 1)
            more = len(galleries) > size
            knowledge = self._registry.known()
            return pb.ListGalleriesResponse(
                galleries=[
                    convert_galleries.gallery(info, knowledge.get(info.name))
                    for info in galleries[:size]
                ],
                next_page_token=paging.page_token(galleries[size - 1].name) if more else "",
            )

        return await answer(context, self._ask(work))

    async def GetGallery(  # noqa: N802
        self, request: pb.GetGalleryRequest, context: Context
    ) -> pb.GetGalleryResponse:
        """Answers what there is to know of one gallery."""

        def work() -> pb.GetGalleryResponse:
            info = self._store.gallery(convert.gallery_of(request.gallery))
            knowledge = self._registry.known().get(info.name)
            return pb.GetGalleryResponse(gallery=convert_galleries.gallery(info, knowledge))

        return await answer(context, self._ask(work))

    async def DeleteGallery(  # noqa: N802
        self, request: pb.DeleteGalleryRequest, context: Context
    ) -> pb.DeleteGalleryResponse:
        """Deletes a gallery."""

        def work(change: Change) -> Applied:
            if not request.change.gallery:
                raise InvalidRequestError("change.gallery is empty: name the gallery to delete")
            return self._store.delete(change)

        applied = await answer(context, self._change(context, request.change, work))
        return pb.DeleteGalleryResponse(
            revision=applied.revision, removed=applied.counts["removed"]
        )

    async def Enrol(  # type: ignore[override]  # noqa: N802
        self, request_iterator: AsyncIterator[pb.EnrolRequest | Malformed], context: Context
    ) -> None:
        """Adds pictures as one revision."""
        PEER.set(context.peer())

        async def work(report: Report) -> pb.EnrolResult:
            self._registry.watch.check()
            async with self._enrolments.place(context):
                header, items = await self._enrolments.receive(request_iterator)
                change = convert_galleries.change_of(header)
                applied = await self._enroller.enrol(change, items, progress=report)
                await self._registry.refresh_after_change(change.gallery)
                result = convert_galleries.enrolled(applied)
                added = {outcome.image_id for outcome in applied.outcomes if outcome.added}
                knowledge = self._registry.known().get(change.gallery)
                if not added or knowledge is None:
                    # Nothing new, or a repeat of what was enrolled into a gallery deleted since.
                    return result
                try:
                    duplicates = await in_store_thread(lambda: near_duplicates(knowledge, added))
                except StorageError as error:
                    # The pictures are in, and who is told of a failure enrols them again.
                    log.warning(
                        "gallery %s: what was enrolled is not compared: %s", change.gallery, error
                    )
                    return result
                return convert_curation.with_near_duplicates(result, duplicates)

        await answer_with_progress(context, pb.EnrolResponse, work)

    async def Remove(  # noqa: N802
        self, request: pb.RemoveRequest, context: Context
    ) -> pb.RemoveResponse:
        """Takes pictures out."""

        def work(change: Change) -> Applied:
            ids = _some(request.image_ids)
            return self._store.remove(change, ids)

        applied = await answer(context, self._change(context, request.change, work))
        return pb.RemoveResponse(revision=applied.revision, removed=applied.counts["removed"])

    async def Relabel(  # noqa: N802
        self, request: pb.RelabelRequest, context: Context
    ) -> pb.RelabelResponse:
        """Gives pictures another label."""

        def work(change: Change) -> Applied:
            ids = _some(request.image_ids)
            return self._store.relabel(change, ids, request.label)

        applied = await answer(context, self._change(context, request.change, work))
        return pb.RelabelResponse(
            revision=applied.revision, relabelled=applied.counts["relabelled"]
        )

    async def Rollback(  # noqa: N802
        self, request: pb.RollbackRequest, context: Context
    ) -> pb.RollbackResponse:
        """Goes back to an earlier revision, as a new one."""

        def work(change: Change) -> Applied:
            if not request.HasField("to_revision"):
                raise InvalidRequestError("to_revision is absent; 0 is the empty gallery")
            return self._store.rollback(change, request.to_revision)

        applied = await answer(context, self._change(context, request.change, work))
        lost = [outcome.image_id for outcome in applied.outcomes]
        return pb.RollbackResponse(revision=applied.revision, lost_image_ids=lost, **applied.counts)

    async def SetLabels(  # noqa: N802
        self, request: pb.SetLabelsRequest, context: Context
    ) -> pb.SetLabelsResponse:
        """Sets what the operator knows of some labels."""

        def work(change: Change) -> Applied:
            return self._store.set_facts(change, convert_galleries.updates_of(request))

        applied = await answer(context, self._change(context, request.change, work))
        return pb.SetLabelsResponse(revision=applied.revision)

    async def _change(
        self,
        context: Context,
        message: pb.Change,
        work: Callable[[Change], Applied],
    ) -> Applied:
        PEER.set(context.peer())
        change = convert_galleries.change_of(message)
        applied = await self._ask(partial(work, change))
        await self._registry.refresh_after_change(change.gallery)
        return applied

    async def _ask(self, work: Callable[[], T]) -> T:
        """Does work that needs the store in a thread, unless the store is away."""
        self._registry.watch.check()
        return await in_store_thread(work)

    async def ListImages(  # noqa: N802
        self, request: pb.ListImagesRequest, context: Context
    ) -> pb.ListImagesResponse:
        """One page of the images of a gallery."""

        def work() -> pb.ListImagesResponse:
            size = paging.page_size(request.page_size)
            position = paging.position_of(request.page_token, int, str, str)
            at, after = (position[0], position[1:]) if position else (None, ("", ""))
            revision, images = self._store.images(
                convert.gallery_of(request.gallery),
                revision=at,
                label=request.label or None,
                after=after,
                limit=size + 1,
            )
            more = len(images) > size
            last = images[:size][-1] if more else None
            return pb.ListImagesResponse(
                revision=revision,
                images=map(convert_galleries.image, images[:size]),
                next_page_token=paging.page_token(revision, last.label, last.image_id)
                if last
                else "",
            )

        return await answer(context, self._ask(work))

    async def ListHistory(  # noqa: N802
        self, request: pb.ListHistoryRequest, context: Context
    ) -> pb.ListHistoryResponse:
        """One page of the changes of a gallery."""

        def work() -> pb.ListHistoryResponse:
            size = paging.page_size(request.page_size)
            position = paging.position_of(request.page_token, int)
            revisions = self._store.history(
                convert.gallery_of(request.gallery),
                before=position[0] if position else None,
                limit=size + 1,
            )
            more = len(revisions) > size
            return pb.ListHistoryResponse(
                revisions=map(convert_galleries.revision, revisions[:size]),
                next_page_token=paging.page_token(revisions[size - 1].revision) if more else "",
            )

        return await answer(context, self._ask(work))

    async def GetLabels(  # noqa: N802
        self, request: pb.GetLabelsRequest, context: Context
    ) -> pb.GetLabelsResponse:
        """Answers what the operator knows of each label."""

        def work() -> pb.GetLabelsResponse:
            revision, counts, facts = self._store.labels(convert.gallery_of(request.gallery))
            return pb.GetLabelsResponse(
                revision=revision, labels=convert_galleries.labels(counts, facts)
            )

        return await answer(context, self._ask(work))

    async def Diagnose(  # type: ignore[override]  # noqa: N802
        self, request: pb.DiagnoseRequest, context: Context
    ) -> None:
        """What may be wrong with a gallery."""

        def work(report: Report) -> pb.Diagnosis:
            self._registry.watch.check()
            limit = convert_curation.max_images(request.max_images)
            knowledge = self._registry.get(convert.gallery_of(request.gallery))
            diagnosis = diagnose(knowledge, max_images=limit, progress=report)
            result = convert_curation.diagnosis(diagnosis)
            settled = self._store.settlements(knowledge.snapshot.gallery)
            found = findings(diagnosis, knowledge.snapshot)
            result.findings.extend(convert_findings.findings(found, settled))
            return result

        await self._examine(context, pb.DiagnoseResponse, work)

    async def SettleFindings(  # noqa: N802
        self, request: pb.SettleFindingsRequest, context: Context
    ) -> pb.SettleFindingsResponse:
        """Notes that findings are well."""
        PEER.set(context.peer())

        def work() -> pb.SettleFindingsResponse:
            gallery = convert.gallery_of(request.gallery)
            settled = [finding.settled for finding in convert_findings.findings_of(request)]
            self._store.settle(gallery, settled, author=request.author, note=request.note)
            keys = [finding.key for finding in settled]
            audit.settled("settled", gallery, keys, author=request.author)
            return pb.SettleFindingsResponse(keys=keys)

        return await answer(context, self._ask(work))

    async def UnsettleFindings(  # noqa: N802
        self, request: pb.UnsettleFindingsRequest, context: Context
    ) -> pb.UnsettleFindingsResponse:
        """Takes back that findings are well."""
        PEER.set(context.peer())

        def work() -> pb.UnsettleFindingsResponse:
            gallery = convert.gallery_of(request.gallery)
            keys = self._store.unsettle(gallery, convert_findings.keys_of(request))
            if keys:
                audit.settled("unsettled", gallery, keys)
            return pb.UnsettleFindingsResponse(keys=keys)

        return await answer(context, self._ask(work))

    async def SuggestBrands(  # type: ignore[override]  # noqa: N802
        self, request: pb.SuggestBrandsRequest, context: Context
    ) -> None:
        """Proposes brand names for a person to confirm."""

        def work(report: Report) -> pb.BrandSuggestions:
            knowledge = self._registry.get(convert.gallery_of(request.gallery))
            return convert_curation.suggestions(knowledge, report)

        await self._examine(context, pb.SuggestBrandsResponse, work)

    async def _examine(
        self, context: Context, response: Callable[..., Any], work: Callable[[Report], Any]
    ) -> None:
        """Does work in a thread, once there is a place, and answers with its progress."""
        run = self._examinations.run
        await answer_with_progress(
            context, response, lambda report: run(context, partial(work, report))
        )

    async def GetImage(  # noqa: N802
        self, request: pb.GetImageRequest, context: Context
    ) -> pb.GetImageResponse:
        """Answers a picture of a gallery, as it is kept or smaller."""

        def work() -> pb.GetImageResponse:
            self._registry.watch.check()
            return pb.GetImageResponse(
                image=convert_curation.picture(self._store, request, self._limits)
            )

        if not request.max_side_px:
            return await answer(context, self._ask(work))
        return await answer(context, self._examinations.run(context, work))


def _some(image_ids: Sequence[str]) -> Sequence[str]:
    if not image_ids:
        raise InvalidRequestError("image_ids is empty: name at least one image")
    return image_ids
