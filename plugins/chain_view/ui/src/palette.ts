// Colours for both themes. Kinds of bytes also differ by pattern and regions also carry their names: never colour alone.

export interface Palette {
  text: string;
  muted: string;
  line: string;
  panel: string;
  accent: string;
  second: string;
  danger: string;
  ramp: string[];
  kinds: Record<Kind, string>;
}

export type Kind = "visible" | "shadowed" | "zero" | "compressed" | "unknown";

const LIGHT: Palette = {
  text: "#1f2328",
  muted: "#57606a",
  line: "#d0d7de",
  panel: "#ffffff",
  accent: "#0b6bcb",
  second: "#b35900",
  danger: "#b42318",
  ramp: ["#eef4fb", "#b9d7f3", "#6aaae4", "#1f77c4", "#0a3f78"],
  kinds: { visible: "#0b6bcb", shadowed: "#c05600", zero: "#8b949e", compressed: "#6f42c1", unknown: "#b8a88a" },
};

const DARK: Palette = {
  text: "#e6edf3",
  muted: "#9da7b3",
  line: "#3d444d",
  panel: "#0f1115",
  accent: "#4da3ff",
  second: "#f0a050",
  danger: "#ff7b72",
  ramp: ["#14202e", "#1b3d5f", "#22649f", "#3d93dd", "#a5d4ff"],
  kinds: { visible: "#4da3ff", shadowed: "#f0a050", zero: "#7d8590", compressed: "#b392f0", unknown: "#8a7f66" },
};

export function palette(dark: boolean): Palette {
  return dark ? DARK : LIGHT;
}

const REGIONS_LIGHT = ["#0b6bcb", "#1a7f37", "#b35900", "#8250df", "#bf3989", "#0e7c86", "#9a6700", "#57606a"];
const REGIONS_DARK = ["#4da3ff", "#56d364", "#f0a050", "#b392f0", "#f778ba", "#39c5cf", "#d4a72c", "#9da7b3"];

/** A region keeps its colour: it goes by its place in the fleet's list. */
export function regionColor(region: string, regions: readonly string[], dark: boolean): string {
  const colors = dark ? REGIONS_DARK : REGIONS_LIGHT;
  const place = regions.indexOf(region);
  return place < 0 ? colors[colors.length - 1]! : colors[place % (colors.length - 1)]!;
}
