"""ReviewService: answers that were kept for a person, known items, decisions and their figures."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from pagesight.v1 import review_pb2 as pb
from pagesight.v1 import review_pb2_grpc
from pagesight_server.common.errors import InvalidRequestError
from pagesight_server.config import Config
from pagesight_server.curation.known_items import draw_known
from pagesight_server.curation.review_figures import review_figures
from pagesight_server.gallery import Gallery
from pagesight_server.gallery.review_records import NEWEST
from pagesight_server.gallery.transaction import image_key
from pagesight_server.inference.thumbnails import shrink
from pagesight_server.service import audit, convert, convert_review, paging
from pagesight_server.service.auth import PEER
from pagesight_server.service.codec import Context, answer
from pagesight_server.service.convert_curation import MAX_SIDE_PX
from pagesight_server.service.discovering import Discovering
from pagesight_server.service.gates import ExaminationGate, in_store_thread
from pagesight_server.service.progress import Report, answer_with_progress
from pagesight_server.workflows.enrolment import Enroller
from pagesight_server.workflows.registry import Registry

T = TypeVar("T")


class ReviewService(review_pb2_grpc.ReviewServiceServicer):
    """What persons see of answers, and what they decide.

    Args:
        store: Keeps answers and decisions.
        enroller: Sees and reads pictures as it does for enrolments.
        registry: What is known of each gallery.
        config: All settings.
    """

    def __init__(
        self, store: Gallery, enroller: Enroller, registry: Registry, config: Config
    ) -> None:
        self._store = store
        self._registry = registry
        self._config = config
        self._limits = config.review.limits
        self._examinations = ExaminationGate(config.server)
        self._discovering = Discovering(store, enroller, registry, config)

    async def _ask(self, work: Callable[[], T]) -> T:
        """Does work that needs the store in a thread, unless the store is away."""
        self._registry.watch.check()
        return await in_store_thread(work)

    async def _examine(self, context: Context, work: Callable[[], T]) -> T:
        """Does what `_ask` does where it takes a thread for long, once there is a place."""
        self._registry.watch.check()
        return await self._examinations.run(context, work)

    def _since_ms(self) -> int:
        """The Unix time before which kept answers are forgotten, whenever they are deleted."""
        return self._limits.since_ms(self._store.now_ms())

    async def ListKept(  # noqa: N802
        self, request: pb.ListKeptRequest, context: Context
    ) -> pb.ListKeptResponse:
        """Answers one page of the answers that were kept."""

        def work() -> pb.ListKeptResponse:
            size = paging.page_size(request.page_size, default=paging.MAX_PAGE)
            position = paging.position_of(request.page_token, int)
            answers = self._store.kept(
                convert.gallery_of(request.gallery),
                since_ms=self._since_ms(),
                undecided_by=convert_review.undecided_by(request.undecided_by),
                before=position[0] if position else NEWEST,
                limit=size + 1,
            )
            more = len(answers) > size
            return pb.ListKeptResponse(
                answers=map(convert_review.kept, answers[:size]),
                next_page_token=paging.page_token(answers[size - 1].number) if more else "",
                capacity=self._limits.answers,
                keep_days=self._limits.keep_days,
                reviewer=convert_review.recorded_name(request.undecided_by),
            )

        return await answer(context, self._ask(work))

    async def GetKeptImage(  # noqa: N802
        self, request: pb.GetKeptImageRequest, context: Context
    ) -> pb.GetKeptImageResponse:
        """Answers the picture of a kept answer, and says so in the audit log."""
        PEER.set(context.peer())

        def work() -> pb.GetKeptImageResponse:
            if not 0 <= request.max_side_px <= MAX_SIDE_PX:
                raise InvalidRequestError(
                    f"max_side_px is 0, for the picture as received, to {MAX_SIDE_PX}"
                )
            gallery, image_id = convert.gallery_of(request.gallery), request.image_id.lower()
            data = self._store.kept_image(gallery, image_id, since_ms=self._since_ms())
            if request.max_side_px:
                data = shrink(data, request.max_side_px, self._config.image)
            audit.kept_image_read(gallery, image_id, request.max_side_px)
            return pb.GetKeptImageResponse(image=data)

        if not request.max_side_px:
            return await answer(context, self._ask(work))
        return await answer(context, self._examine(context, work))

    async def DrawKnown(  # noqa: N802
        self, request: pb.DrawKnownRequest, context: Context
    ) -> pb.DrawKnownResponse:
        """Draws pictures of the gallery, answered as if it did not hold them."""

        def work() -> pb.DrawKnownResponse:
            count = convert_review.known_count(request.count)
            knowledge = self._registry.get(convert.gallery_of(request.gallery))
            drawn = draw_known(knowledge, count, review_above=self._config.recognition.review_above)
            return pb.DrawKnownResponse(items=map(convert_review.known_item, drawn))

        return await answer(context, self._examinations.run(context, work))

    async def RecordDecisions(  # noqa: N802
        self, request: pb.RecordDecisionsRequest, context: Context
    ) -> pb.RecordDecisionsResponse:
        """Writes down what persons decided."""
        PEER.set(context.peer())

        def work() -> pb.RecordDecisionsResponse:
            gallery = convert.gallery_of(request.gallery)
            made = convert_review.decisions_of(request)
            recorded = self._store.record_decisions(gallery, made)
            if recorded:
                audit.decided("recorded", gallery, recorded, {one.reviewer for one in made})
            return pb.RecordDecisionsResponse(recorded=recorded)

        return await answer(context, self._ask(work))

    async def WithdrawDecisions(  # noqa: N802
        self, request: pb.WithdrawDecisionsRequest, context: Context
    ) -> pb.WithdrawDecisionsResponse:
        """Takes decisions back."""
        PEER.set(context.peer())

        def work() -> pb.WithdrawDecisionsResponse:
            gallery = convert.gallery_of(request.gallery)
            ids = convert_review.decision_ids_of(request)
            withdrawn = self._store.withdraw_decisions(gallery, ids)
            if withdrawn:
                audit.decided("withdrawn", gallery, withdrawn)
            return pb.WithdrawDecisionsResponse(withdrawn=withdrawn)

        return await answer(context, self._ask(work))

    async def RecordReveal(  # noqa: N802
        self, request: pb.RecordRevealRequest, context: Context
    ) -> pb.RecordRevealResponse:
        """Writes a line that a person saw a picture whole."""
        PEER.set(context.peer())

        async def work() -> pb.RecordRevealResponse:
            image_id = image_key(request.image_id).hex()
            reviewer = convert_review.reviewer_of(request)
            audit.revealed(convert.gallery_of(request.gallery), image_id, reviewer)
            return pb.RecordRevealResponse()

        return await answer(context, work())

    async def ListDecisions(  # noqa: N802
        self, request: pb.ListDecisionsRequest, context: Context
    ) -> pb.ListDecisionsResponse:
        """Answers one page of the decisions."""

        def work() -> pb.ListDecisionsResponse:
            size = paging.page_size(request.page_size, default=paging.MAX_PAGE)
            position = paging.position_of(request.page_token, int)
            made = self._store.decisions(
                convert.gallery_of(request.gallery),
                image_ids=convert_review.image_ids_of(request),
                before=position[0] if position else None,
                limit=size + 1,
            )
            more = len(made) > size
            return pb.ListDecisionsResponse(
                decisions=[convert_review.decision(one.decision) for one in made[:size]],
                next_page_token=paging.page_token(made[size - 1].number) if more else "",
            )

        return await answer(context, self._ask(work))

    async def GetReviewFigures(  # noqa: N802
        self, request: pb.GetReviewFiguresRequest, context: Context
    ) -> pb.GetReviewFiguresResponse:
        """Answers how much was decided, and how well."""

        def work() -> pb.GetReviewFiguresResponse:
            gallery = convert.gallery_of(request.gallery)
            made = self._store.decisions(gallery)
            figures = review_figures(one.decision for one in reversed(made))
            waiting = self._store.waiting(gallery, since_ms=self._since_ms())
            return convert_review.figures(figures, waiting)

        return await answer(context, self._examine(context, work))

    async def Discover(  # type: ignore[override]  # noqa: N802
        self, request_iterator: AsyncIterator[pb.DiscoverRequest], context: Context
    ) -> None:
        """Sorts pictures by likeness, to find new pages among them."""
        PEER.set(context.peer())

        def work(report: Report) -> Awaitable[pb.Discovery]:
            self._registry.watch.check()
            return self._discovering.discover(request_iterator, context, report)

        await answer_with_progress(context, pb.DiscoverResponse, work)

    async def DismissClusters(  # noqa: N802
        self, request: pb.DismissClustersRequest, context: Context
    ) -> pb.DismissClustersResponse:
        """Marks clusters as of no interest."""
        PEER.set(context.peer())

        async def work() -> pb.DismissClustersResponse:
            self._registry.watch.check()
            return await self._discovering.dismiss(request, context)

        return await answer(context, work())

    async def Preview(  # type: ignore[override]  # noqa: N802
        self, request_iterator: AsyncIterator[pb.PreviewRequest], context: Context
    ) -> None:
        """Answers which answers would turn if pictures were enrolled."""
        PEER.set(context.peer())

        def work(report: Report) -> Awaitable[pb.PreviewResult]:
            self._registry.watch.check()
            return self._discovering.preview(request_iterator, context, report)

        await answer_with_progress(context, pb.PreviewResponse, work)
