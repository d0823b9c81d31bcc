// A graph of lines over time as SVG, and its reading at a moment.
import { scaleLinear, scaleUtc } from "d3-scale";
import { line as pathOf } from "d3-shape";
import { make, makeSvg } from "./dom";
import type { Graph, Line, Point } from "./series";
import { texts } from "./texts";

const HEIGHT = 190;
const MARGIN = { left: 44, right: 14, top: 8, bottom: 22 };

export interface Chart {
  element: HTMLElement;
  /** Reads the observation nearest to a moment. */
  readAt(time: number): void;
}

/** Draws a graph over a period; `onMoment` hears which moment is pointed at. */
export function chart(
  graph: Graph,
  period: [number, number],
  onMoment: (time: number) => void,
): Chart {
  const reading = make("p", { class: "reading" });
  const canvas = make("div", { class: "canvas" });
  const lines = graph.lines;
  let moment: number | null = null;
  const redraw = () => {
    const width = canvas.clientWidth;
    if (width > 0) canvas.replaceChildren(draw(graph, period, width, moment, onMoment));
  };
  const choices = lines.length > 1 ? [choose(lines, redraw)] : [];
  const caption = make("figcaption", {}, graph.title);
  const element = make("figure", { class: "chart" }, caption, ...choices, canvas, reading, table(graph));
  new ResizeObserver(redraw).observe(canvas);
  const readAt = (time: number) => {
    moment = nearest(lines, time);
    if (moment !== null) reading.textContent = read(graph, moment);
    redraw();
  };
  return { element, readAt };
}

function choose(lines: Line[], redraw: () => void): HTMLElement {
  const boxes = lines.map((line) => {
    const change = (event: Event) => {
      line.shown = (event.target as HTMLInputElement).checked;
      redraw();
    };
    const box = make("input", { type: "checkbox", checked: line.shown, change });
    const sample = makeSvg("svg", { class: "sample", viewBox: "0 0 20 6", "aria-hidden": "true" },
      makeSvg("path", { d: "M0 3H20", class: "line", "data-kind": line.kind }));
    return make("label", {}, box, sample, line.name);
  });
  return make("div", { class: "choices" }, ...boxes);
}

function draw(
  graph: Graph,
  period: [number, number],
  width: number,
  moment: number | null,
  onMoment: (time: number) => void,
): SVGElement {
  const shown = graph.lines.filter((line) => line.shown);
  // Clouds are bright: they would leave the crop at the bottom. Those beyond stand at the edge.
  const clear = shown.flatMap((line) => line.points.filter((point) => !point.clouded));
  const values = clear.map((point) => point.value);
  const x = scaleUtc(period, [MARGIN.left, width - MARGIN.right]);
  const y = scaleLinear(
    [Math.min(graph.reach[0], ...values), Math.max(graph.reach[1], ...values)],
    [HEIGHT - MARGIN.bottom, MARGIN.top],
  )
    .nice()
    .clamp(true);
  const point = (event: PointerEvent) => {
    const left = (event.currentTarget as Element).getBoundingClientRect().left;
    onMoment(x.invert(event.clientX - left).getTime());
  };
  const svg = makeSvg("svg", {
    width,
    height: HEIGHT,
    role: "img",
    "aria-label": graph.title,
    pointerdown: point,
    pointermove: point,
  });
  const ticks = y.ticks(5);
  const label = y.tickFormat(5);
  for (const value of ticks)
    svg.append(
      makeSvg("path", { class: "grid", d: `M${MARGIN.left} ${y(value)}H${width - MARGIN.right}` }),
      makeSvg("text", { x: MARGIN.left - 6, y: y(value) + 4, "text-anchor": "end" }, label(value)),
    );
  for (const time of x.ticks(Math.max(2, Math.floor(width / 90))))
    svg.append(
      makeSvg("path", { class: "grid", d: `M${x(time)} ${HEIGHT - MARGIN.bottom}v4` }),
      makeSvg("text", { x: x(time), y: HEIGHT - 4, "text-anchor": "middle" }, short(x.tickFormat()(time))),
    );
  if (moment !== null)
    svg.append(makeSvg("path", { class: "moment", d: `M${x(moment)} ${MARGIN.top}V${HEIGHT - MARGIN.bottom}` }));
  // The line goes from one clear observation to the next; clouded ones stand beside it.
  const path = pathOf<Point>((one) => x(one.time), (one) => y(one.value));
  for (const line of shown) {
    const d = path(line.points.filter((one) => !one.clouded)) ?? "";
    svg.append(makeSvg("path", { class: "line", "data-kind": line.kind, d }));
    for (const one of line.points)
      svg.append(
        makeSvg("circle", {
          class: one.clouded ? "point clouded" : "point",
          "data-kind": line.kind,
          cx: x(one.time),
          cy: y(one.value),
          r: one.time === moment ? 5 : 3,
        }),
      );
  }
  return svg;
}

/** Months in full do not stand beside each other on a phone. */
function short(label: string): string {
  return /^[A-Z][a-z]+$/.test(label) ? label.slice(0, 3) : label;
}

function nearest(lines: Line[], time: number): number | null {
  let best: number | null = null;
  for (const line of lines)
    for (const point of line.points)
      if (best === null || Math.abs(point.time - time) < Math.abs(best - time)) best = point.time;
  return best;
}

function read(graph: Graph, moment: number): string {
  const parts = [day(moment)];
  let share: number | null = null;
  for (const line of graph.lines) {
    const point = line.points.find((one) => one.time === moment);
    if (!point || !line.shown) continue;
    parts.push(`${line.name} ${point.value.toFixed(graph.digits)}`);
    share = point.share;
  }
  if (share !== null) parts.push(texts.cloudShare(Math.round(share * 100)));
  return parts.join(" · ");
}

/** The same as a table, for those who cannot see the graph. */
function table(graph: Graph): HTMLElement {
  const body = make("table");
  const details = make("details", { class: "values" }, make("summary", {}, texts.values), body);
  details.addEventListener("toggle", () => body.childElementCount || fillTable(body, graph));
  return details;
}

function fillTable(body: HTMLTableElement, graph: Graph): void {
  const times = new Set(graph.lines.flatMap((line) => line.points.map((point) => point.time)));
  const names = graph.lines.map((line) => make("th", { scope: "col" }, line.name));
  const head = [make("th", { scope: "col" }, texts.date), ...names, make("th", { scope: "col" }, texts.clouded)];
  body.append(make("thead", {}, make("tr", {}, ...head)));
  const rows = [...times].sort((a, b) => a - b).map((time) => {
    const found = graph.lines.map((line) => line.points.find((point) => point.time === time));
    const share = found.find((point) => point)?.share ?? null;
    const cells = found.map((point) => make("td", {}, point ? point.value.toFixed(graph.digits) : ""));
    const cloud = make("td", {}, share === null ? "" : `${Math.round(share * 100)} %`);
    return make("tr", {}, make("th", { scope: "row" }, day(time)), ...cells, cloud);
  });
  body.append(make("tbody", {}, ...rows));
}

export function day(time: number): string {
  return new Date(time).toISOString().slice(0, 10);
}
