"""The routes of the page; what they show is in `view` and templates, what they do in the parts.

    /  /more  /decide  /undo  /reveal  /rest  /labels  /question/...   the queue
    /batch ...        what is to be enrolled, and what was
    /discovery ...    new pages
    /figures          how much was decided, and how well
    /picture/KEY  /gallery/ID  /cluster/ID  /static/...  /status

Calls of the server block, so that they run in threads of Starlette's pool.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from pagesight._classification import OTHER
from pagesight._errors import NotFoundError, PagesightError, UnreadableFileError
from pagesight._review_page import labels, view
from pagesight._review_page.batch import in_words
from pagesight._review_page.export import media_type
from pagesight._review_page.model import Card, Question
from pagesight._review_page.prepare import SHOWN_OF_QUESTION
from pagesight._review_page.review import Review
from pagesight._review_page.security import Guard

MOST_TILES = 300
"""Decided screenshots that the batch page shows: those to be enrolled, and corrections, first."""

logger = logging.getLogger("pagesight.review")

Handler = Callable[[Request, Mapping[str, str]], Response]


def build(review: Review, port: int) -> ASGIApp:
    """Returns the page, guarded."""
    routes = Routes(review)
    app = Starlette(
        routes=routes.all(),
        exception_handlers={
            KeyError: lambda _request, _error: PlainTextResponse(
                "that is not on the page any more; reload it", 404
            ),
            PagesightError: routes.failed,
        },
    )
    return Guard(app, review.secrets, port)


class Routes:
    """The handlers, each given the request and the fields of its form."""

    def __init__(self, review: Review) -> None:
        self._review = review
        self._desk = review.desk
        self._templates = view.environment(csrf=review.secrets.csrf, covers=self._covers)

    def all(self) -> list[BaseRoute]:
        """Returns every route, static files included."""
        get: dict[str, Handler] = {
            "/": self.queue,
            "/more": self.more,
            "/labels": self.labels,
            "/status": self.status,
            "/picture/{key}": self.picture,
            "/gallery/{image_id}": self.gallery_picture,
            "/cluster/{image_id}": self.cluster_picture,
            "/batch": self.batch,
            "/batch/preview": self.preview,
            "/discovery": self.discovery,
            "/discovery/found": self.found,
            "/figures": self.figures,
        }
        post: dict[str, Handler] = {
            "/decide": self.decide,
            "/undo": self.undo,
            "/reveal": self.reveal,
            "/rest": self.rest,
            "/question/settle": self.settle,
            "/question/relabel": self.relabel,
            "/question/later": self.later,
            "/question/reopen": self.reopen,
            "/batch/preview": self.start_preview,
            "/batch/enrol": self.enrol,
            "/batch/undo": self.undo_batch,
            "/discovery": self.discover,
            "/discovery/reveal": self.reveal_clusters,
            "/discovery/enrol": self.enrol_cluster,
            "/discovery/unknown": self.unknown_cluster,
            "/discovery/dismiss": self.dismiss_cluster,
        }
        static = StaticFiles(directory=Path(__file__).parent / "static")
        return [
            *(Route(path, _threaded(handler), methods=["GET"]) for path, handler in get.items()),
            *(Route(path, _threaded(handler), methods=["POST"]) for path, handler in post.items()),
            Mount("/static", static),
        ]

    def failed(self, _request: Request, error: Exception) -> Response:
        """What a call of the server that failed means for the reviewer."""
        assert isinstance(error, PagesightError)
        if isinstance(error, NotFoundError | UnreadableFileError):
            # A picture that is gone is told in its place, not over every card from now on.
            return PlainTextResponse(view.printable(in_words(error)), 404)
        self._desk.reach.failed(error)
        return PlainTextResponse(in_words(error), 502)

    # --- the queue ---

    def queue(self, _request: Request, _form: Mapping[str, str]) -> Response:
        return self._page("queue", title="Queue")

    def more(self, request: Request, _form: Mapping[str, str]) -> Response:
        on_page = [key for key in request.query_params.get("have", "").split(",") if key]
        deal = self._desk.deal(on_page)
        answer = HTMLResponse("".join(self._render_card(card) for card in deal.cards))
        answer.headers["x-gone"] = ",".join(deal.gone)
        answer.headers["x-coming"] = "1" if deal.coming else "0"
        answer.headers["x-rest"] = str(self._desk.counts.rest)
        return answer

    def decide(self, _request: Request, form: Mapping[str, str]) -> Response:
        label = labels.normal(form["label"])
        if label and (why := _why_no_answer(label)):
            return PlainTextResponse(why, 400)
        try:
            decided = self._desk.decide(
                form["key"],
                label,
                teach=bool(form.get("teach")) and self._review.may_enrol,
                seconds=_seconds(form.get("seconds", "")),
            )
        except ValueError as error:
            return PlainTextResponse(str(error), 409)
        if label and label != OTHER:
            self._review.use(label)
        try:
            self._review.batches.put_aside(decided)
        except OSError as error:
            return PlainTextResponse(f"recorded, but not exported: {error.strerror}", 500)
        except PagesightError as error:
            why = view.printable(in_words(error))
            return PlainTextResponse(f"recorded, but not exported: {why}", 500)
        return Response(status_code=204)

    def undo(self, _request: Request, form: Mapping[str, str]) -> Response:
        try:
            decided = self._desk.undo(form.get("key", ""))
        except ValueError as error:
            return PlainTextResponse(str(error), 409)
        if decided is None:
            return PlainTextResponse("there is nothing to take back", 409)
        if self._review.batches.export is not None:
            self._review.batches.export.take_back(decided.waiting.image_id)
        if form.get("key") == decided.waiting.key:
            return Response(status_code=204)
        return HTMLResponse(self._render_card(self._desk.card(decided.waiting.key)))

    def reveal(self, _request: Request, form: Mapping[str, str]) -> Response:
        key = form["key"]
        if form.get("question"):
            self._note_reveal(self._desk.question(key).finding.image_ids[:SHOWN_OF_QUESTION])
            return HTMLResponse(self._render_card(self._desk.reveal_question(key)))
        self._note_reveal([self._desk.card(key).waiting.image_id])
        return HTMLResponse(self._render_card(self._desk.reveal(key)))

    def _note_reveal(self, image_ids: Iterable[str]) -> None:
        """Notes that digits are shown, before they are: what nobody could note is not shown."""
        for image_id in self._desk.reveals.note(image_ids):
            logger.info("digits of %s shown to %s", image_id[:12], self._desk.reviewer or "unknown")

    def rest(self, _request: Request, _form: Mapping[str, str]) -> Response:
        self._desk.go_on()
        return Response(status_code=204)

    def labels(self, request: Request, _form: Mapping[str, str]) -> Response:
        typed = labels.normal(request.query_params.get("q", ""))
        known = self._review.labels()
        can_be = [one for one in known if not _why_no_answer(one)]
        why = _why_no_answer(typed) if typed else ""
        return self._render(
            "labels",
            labels=labels.matching(typed, can_be),
            new=typed if typed and not why and typed not in can_be else "",
            why=why,
        )

    def status(self, _request: Request, _form: Mapping[str, str]) -> Response:
        return self._render(
            "status",
            away=self._desk.reach.away,
            counts=self._desk.counts,
            progress=self._review.progress(),
            reviewer=self._desk.reviewer,
            gallery=self._desk.gallery,
            refusals=self._desk.reach.refusals,
            unusable=self._desk.unusable_pictures,
        )

    # --- questions of the doctor ---

    def settle(self, _request: Request, form: Mapping[str, str]) -> Response:
        question = self._desk.question(form["key"])
        self._desk.client.settle_findings(
            [question.finding], gallery=self._desk.gallery, author=self._desk.reviewer
        )
        self._desk.close_question(question.key, settled=True)
        return Response(status_code=204)

    def relabel(self, _request: Request, form: Mapping[str, str]) -> Response:
        question, label = self._desk.question(form["key"]), labels.normal(form["label"])
        self._desk.client.relabel(
            question.finding.image_ids[:1],
            label,
            gallery=self._desk.gallery,
            author=self._desk.reviewer,
        )
        self._desk.close_question(question.key)
        self._desk.answer_anew()
        return Response(status_code=204)

    def later(self, _request: Request, form: Mapping[str, str]) -> Response:
        self._desk.close_question(self._desk.question(form["key"]).key)
        return Response(status_code=204)

    def reopen(self, _request: Request, form: Mapping[str, str]) -> Response:
        key = form["key"]
        if self._desk.reopen_question(key):
            finding = self._desk.question(key).finding
            self._desk.client.unsettle_findings([finding.key], gallery=self._desk.gallery)
        return Response(status_code=204)

    # --- batch ---

    def batch(self, _request: Request, _form: Mapping[str, str]) -> Response:
        return self._page("batch", title="Batch", **self._batch())

    def start_preview(self, _request: Request, form: Mapping[str, str]) -> Response:
        self._review.batches.start_preview(_chosen(form))
        return self._preview()

    def preview(self, _request: Request, _form: Mapping[str, str]) -> Response:
        return self._preview()

    def enrol(self, _request: Request, form: Mapping[str, str]) -> Response:
        return self._change(lambda: self._review.batches.enrol(_chosen(form)))

    def undo_batch(self, _request: Request, form: Mapping[str, str]) -> Response:
        return self._change(lambda: self._review.batches.undo(form["batch"]))

    def _change(self, make: Callable[[], object]) -> Response:
        """Makes a change and shows the batches; what failed is said in its place."""
        problem = "" if self._review.may_enrol else "enrolling needs the role gallery-write"
        if not problem:
            try:
                make()
            except PagesightError as error:
                self._desk.reach.failed(error)
                problem = in_words(error)
            except ValueError as error:
                problem = str(error)
        return self._render("batch_body", **self._batch(problem))

    def _batch(self, problem: str = "") -> dict[str, Any]:
        batches = self._review.batches
        teachable = batches.teachable()
        return {
            "teachable": teachable[:MOST_TILES],
            "more": max(0, len(teachable) - MOST_TILES),
            "made": list(reversed(batches.made)),
            "may_enrol": self._review.may_enrol,
            "export": batches.export is not None,
            "problem": problem,
        }

    def _preview(self) -> Response:
        batches = self._review.batches
        return self._render("preview", job=batches.preview, without=batches.preview_without)

    # --- discovery ---

    def discovery(self, _request: Request, _form: Mapping[str, str]) -> Response:
        return self._page("discovery", title="Discovery", **self._found())

    def discover(self, _request: Request, _form: Mapping[str, str]) -> Response:
        self._review.discoveries.start()
        return self.found(_request, _form)

    def reveal_clusters(self, _request: Request, form: Mapping[str, str]) -> Response:
        discoveries = self._review.discoveries
        self._note_reveal(discoveries.shown(discoveries.cluster(form["key"])))
        discoveries.revealed.add(form["key"])
        return self.found(_request, form)

    def found(self, _request: Request, _form: Mapping[str, str]) -> Response:
        return self._render("found", **self._found())

    def enrol_cluster(self, _request: Request, form: Mapping[str, str]) -> Response:
        label = labels.normal(form["label"])
        if why := labels.why_not(label):
            return PlainTextResponse(why, 400)
        return self._cluster(form["key"], lambda key: self._review.discoveries.enrol(key, label))

    def unknown_cluster(self, _request: Request, form: Mapping[str, str]) -> Response:
        return self._cluster(form["key"], self._review.discoveries.keep_unknown)

    def dismiss_cluster(self, _request: Request, form: Mapping[str, str]) -> Response:
        self._review.discoveries.dismiss(form["key"])
        return self._render("cluster_done", text=self._review.discoveries.done[form["key"]])

    def _cluster(self, key: str, change: Callable[[str], object]) -> Response:
        if not self._review.may_enrol:
            return PlainTextResponse("enrolling needs the role gallery-write", 403)
        change(key)
        return self._render("cluster_done", text=self._review.discoveries.done[key])

    def _found(self) -> dict[str, Any]:
        discoveries = self._review.discoveries
        return {
            "job": discoveries.job,
            "clusters": discoveries.clusters,
            "beyond": discoveries.beyond,
            "shown": discoveries.shown,
            "revealed": discoveries.revealed,
            "may_enrol": self._review.may_enrol,
        }

    # --- figures ---

    def figures(self, _request: Request, _form: Mapping[str, str]) -> Response:
        figures = self._desk.client.review_figures(gallery=self._desk.gallery)
        return self._page("figures", title="Figures", figures=figures)

    # --- pictures ---

    def picture(self, request: Request, _form: Mapping[str, str]) -> Response:
        waiting = self._desk.waiting(request.path_params["key"])
        return _image(self._desk.pictures.screenshot(waiting))

    def gallery_picture(self, request: Request, _form: Mapping[str, str]) -> Response:
        return _image(self._desk.pictures.of_gallery(request.path_params["image_id"]))

    def cluster_picture(self, request: Request, _form: Mapping[str, str]) -> Response:
        return _image(self._review.discoveries.picture(request.path_params["image_id"]))

    # --- templates ---

    def _render_card(self, card: Card | Question) -> str:
        may_enrol = self._review.may_enrol
        if isinstance(card, Question):
            template = self._templates.get_template("question.html.j2")
            return template.render(
                question=card,
                text=view.question_text(card),
                most=SHOWN_OF_QUESTION,
                covers=lambda image_id: self._covers(image_id, revealed=card.revealed),
                may_enrol=may_enrol,
            )
        template = self._templates.get_template("card.html.j2")
        shown = view.card_view(card, self._desk.pictures.size)
        return template.render(card=shown, may_enrol=may_enrol)

    def _covers(self, image_id: str, *, revealed: bool = False) -> tuple[view.Mark, ...] | None:
        """What to cover of a picture; None where that is not known, so that it is veiled."""
        boxes = () if revealed else self._desk.prepare.digits(image_id)
        return None if boxes is None else tuple(view.Mark(box, "cover") for box in boxes)

    def _render(self, name: str, **values: Any) -> HTMLResponse:
        return HTMLResponse(self._templates.get_template(f"{name}.html.j2").render(values))

    def _page(self, name: str, **values: Any) -> HTMLResponse:
        return self._render(name, view=name, **values)


def _threaded(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """Runs a handler in a thread, its form read before."""

    async def endpoint(request: Request) -> Response:
        form: dict[str, str] = {}
        if request.method == "POST":
            async with request.form() as sent:
                for name, value in sent.multi_items():
                    if isinstance(value, str):
                        # Of fields that come several times, as ticks do, all values.
                        form[name] = f"{form[name]}\n{value}" if name in form else value
        try:
            return await run_in_threadpool(handler, request, form)
        except KeyError as error:
            raise HTTPException(404, "that is not on the page any more; reload it") from error

    return endpoint


def _chosen(form: Mapping[str, str]) -> list[str]:
    return form.get("decision", "").split("\n")


def _why_no_answer(label: str) -> str:
    """Why a label cannot be what a screenshot shows."""
    if label.startswith(f"{OTHER}_"):
        return f'labels that begin with "{OTHER}_" are examples of unknown pages: press o'
    return "" if label == OTHER else labels.why_not(label)


def _seconds(told: str) -> float:
    try:
        seconds = float(told)
    except ValueError:
        return 0.0
    # A night between showing and deciding says nothing; NaN is neither.
    return seconds if 0.0 <= seconds < 3_600.0 else 0.0


def _image(data: bytes) -> Response:
    return Response(data, media_type=media_type(data))
