// The map: parcels of a collection coloured by crop, from this API's vector tiles.
import {
  addProtocol,
  type FilterSpecification,
  type GeoJSONFeature,
  Map as MapLibre,
  type LngLatBoundsLike,
  NavigationControl,
  ScaleControl,
  setWorkerUrl,
} from "maplibre-gl";
import type { Api } from "./api";
import { type Crop, CROP, OTHER, Palette } from "./crops";

const PROTOCOL = "cbm";
const PARCELS = "parcels";
const GRID = "grid";
const ROOM = 40;

export interface TileJson {
  minzoom: number;
  maxzoom: number;
  bounds?: [number, number, number, number];
}

export type Bounds = [number, number, number, number];

export class ParcelMap {
  /** Resolves when layers can be added. */
  readonly ready: Promise<unknown>;
  private readonly map: MapLibre;
  private palette = new Palette();
  private only: string | null = null;
  private selected = "";

  /** `onCrops` hears what is in view whenever it changes: crops, and whether they are in cells. */
  constructor(
    container: HTMLElement,
    api: Api,
    onSelect: (pid: string) => void,
    private readonly onCrops: (crops: Crop[], cells: boolean) => void,
  ) {
    setWorkerUrl(new URL("worker.js", document.baseURI).href);
    // Tiles are asked for like everything else: with the login, and again when the server is busy.
    addProtocol(PROTOCOL, async ({ url }, { signal }) => {
      const response = await api.get(url.slice(PROTOCOL.length + 3), {}, signal);
      return { data: await response.arrayBuffer() };
    });
    const paint = { "background-color": colour("--ground") };
    this.map = new MapLibre({
      container,
      style: { version: 8, sources: {}, layers: [{ id: "ground", type: "background", paint }] },
      attributionControl: false,
      hash: "map",
      dragRotate: false,
      pitchWithRotate: false,
      touchPitch: false,
    });
    this.ready = this.map.once("load");
    this.map.touchZoomRotate.disableRotation();
    this.map.addControl(new NavigationControl({ showCompass: false }), "top-right");
    this.map.addControl(new ScaleControl(), "bottom-right");
    this.map.on("click", PARCELS, ({ features }) => onSelect(pidOf(features)));
    this.map.on("mousemove", (event) => {
      const over = this.at(event.point.x, event.point.y).length > 0;
      this.map.getCanvas().style.cursor = over ? "pointer" : "";
    });
    this.map.getCanvas().addEventListener("keydown", ({ key }) => {
      const { clientWidth, clientHeight } = container;
      const found = key === "Enter" ? this.at(clientWidth / 2, clientHeight / 2) : [];
      if (found.length) onSelect(pidOf(found));
    });
    this.map.on("idle", () => this.lookAround());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.paint());
  }

  /** Shows a collection; its tiles lie under `address`. */
  show(address: string, tiles: TileJson): void {
    this.clear();
    const { minzoom, maxzoom, bounds } = tiles;
    this.map.addSource(PARCELS, {
      type: "vector",
      tiles: [`${PROTOCOL}://${address}/{z}/{y}/{x}`],
      minzoom,
      maxzoom,
      ...(bounds ? { bounds } : {}),
    });
    const of = (layer: string) => ({ source: PARCELS, "source-layer": layer });
    this.map.addLayer({ id: GRID, type: "fill", ...of(GRID) });
    this.map.addLayer({ id: PARCELS, type: "fill", ...of(PARCELS) });
    this.map.addLayer({ id: "edges", type: "line", ...of(PARCELS) });
    this.map.addLayer({ id: "selected", type: "line", ...of(PARCELS) });
    this.map.setPaintProperty("selected", "line-width", 3);
    this.select(this.selected);
    this.paint();
  }

  goTo(bounds: Bounds, animate = true): void {
    const [west, south, east, north] = bounds;
    const box: LngLatBoundsLike = [[west, south], [east, north]];
    // The panel may just have taken its part of the page.
    this.map.resize();
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.map.fitBounds(box, { padding: ROOM, maxZoom: 17, animate: animate && !calm });
  }

  select(pid: string): void {
    this.selected = pid;
    if (this.map.getLayer("selected")) this.map.setFilter("selected", ["==", ["get", "pid"], pid]);
  }

  /** Shows one crop only, or all (null). */
  showOnly(crop: string | null): void {
    this.only = crop;
    const filter = crop === null ? null : (["==", CROP, crop] as unknown as FilterSpecification);
    for (const layer of [GRID, PARCELS]) this.map.setFilter(layer, filter);
  }

  colour(crop: string): string {
    return this.palette.has(crop) ? this.palette.colour(crop) : OTHER;
  }

  get shownOnly(): string | null {
    return this.only;
  }

  private clear(): void {
    for (const layer of [GRID, PARCELS, "edges", "selected"])
      if (this.map.getLayer(layer)) this.map.removeLayer(layer);
    if (this.map.getSource(PARCELS)) this.map.removeSource(PARCELS);
    this.palette = new Palette();
    this.only = null;
    this.onCrops([], false);
  }

  private at(x: number, y: number): GeoJSONFeature[] {
    return this.map.getLayer(PARCELS) ? this.map.queryRenderedFeatures([x, y], { layers: [PARCELS] }) : [];
  }

  private lookAround(): void {
    if (!this.map.getLayer(PARCELS)) return;
    const found = new Map<string, Crop & { parcels: Set<unknown> }>();
    const features = [GRID, PARCELS].flatMap((layer) =>
      this.map.querySourceFeatures(PARCELS, { sourceLayer: layer }),
    );
    for (const { id, properties } of features) {
      const key = String(properties["crop_code"] ?? properties["crop_name"] ?? "");
      const name = String(properties["crop_name"] ?? key);
      const crop = found.get(key) ?? { key, name, count: 0, parcels: new Set() };
      crop.parcels.add(id ?? crop.parcels.size);
      found.set(key, { ...crop, count: crop.parcels.size });
    }
    const crops = [...found.values()].sort((a, b) => b.count - a.count);
    if (this.palette.add(crops)) this.paint();
    this.onCrops(crops, features.length > 0 && !("pid" in (features[0]?.properties ?? {})));
  }

  private paint(): void {
    this.map.setPaintProperty("ground", "background-color", colour("--ground"));
    if (!this.map.getLayer(PARCELS)) return;
    for (const layer of [GRID, PARCELS])
      this.map.setPaintProperty(layer, "fill-color", this.palette.expression());
    this.map.setPaintProperty(PARCELS, "fill-opacity", 0.85);
    this.map.setPaintProperty(GRID, "fill-opacity", 0.7);
    this.map.setPaintProperty("edges", "line-color", colour("--edge"));
    this.map.setPaintProperty("selected", "line-color", colour("--accent"));
  }
}

/** A colour of the style sheet, which knows light and dark. */
function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function pidOf(features: GeoJSONFeature[] | undefined): string {
  return String(features?.[0]?.properties["pid"] ?? "");
}
