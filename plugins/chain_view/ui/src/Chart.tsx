// One chart: drawn as SVG, described for screen readers, with its figures as a table one key press away.
import { useEffect, useId, useRef, useState, type ReactNode } from "react";
import { bytes } from "./format";
import { useDark } from "./hooks";
import { palette, type Palette } from "./palette";

export interface Figures {
  columns: string[];
  rows: ReactNode[][];
}

interface Props {
  title: string;
  summary: string;
  height: number;
  option: (colors: Palette, narrow: boolean) => Record<string, unknown>;
  figures: Figures;
  version: string;
  onPick?: (index: number) => void;
  controls?: ReactNode;
}

export function Chart({ title, summary, height, option, figures, version, onPick, controls }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const [failed, setFailed] = useState(false);
  const dark = useDark();
  const label = useId();
  useEffect(() => {
    let chart: any = null;
    let observer: ResizeObserver | null = null;
    let gone = false;
    import("./charts")
      .then(({ init }) => {
        const node = box.current;
        if (gone || !node) return;
        chart = init(node, null, { renderer: "svg" });
        const draw = () => {
          if (node.clientWidth === 0) return;
          chart.resize();
          chart.setOption(common(option(palette(dark), node.clientWidth < 440), palette(dark)), true);
        };
        draw();
        if (onPick) chart.on("click", (event: any) => onPick(event.dataIndex));
        observer = new ResizeObserver(draw);
        observer.observe(node);
      })
      .catch(() => setFailed(true));
    return () => {
      gone = true;
      observer?.disconnect();
      chart?.dispose();
    };
  }, [version, dark]);
  return (
    <figure className="cw-figure" aria-labelledby={label}>
      <figcaption id={label}>
        <h3>{title}</h3>
        <p className="cw-muted">{summary}</p>
      </figcaption>
      {controls}
      {failed ? <p className="cw-muted">The chart could not be loaded; its figures are below.</p> : null}
      <div ref={box} className="cw-chart" style={{ height }} role="img" aria-label={`${title}. ${summary}`} />
      <FigureTable title={title} figures={figures} open={failed} />
    </figure>
  );
}

function FigureTable({ title, figures, open }: { title: string; figures: Figures; open: boolean }) {
  return (
    <details className="cw-figures" open={open}>
      <summary>Figures of this chart</summary>
      <div className="cw-scroll" tabIndex={0} role="region" aria-label={`${title}: figures`}>
        <table className="cw-table">
          <thead>
            <tr>
              {figures.columns.map((name) => (
                <th key={name} scope="col">
                  {name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {figures.rows.map((row, index) => (
              <tr key={index}>
                {row.map((value, place) => (
                  <td key={place}>{value}</td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}

/** Text colours, a tooltip drawn as SVG text (never as HTML: names are not ours), no animation. */
function common(option: Record<string, unknown>, colors: Palette): Record<string, unknown> {
  const tooltip = (option.tooltip ?? {}) as Record<string, unknown>;
  return {
    animation: false,
    backgroundColor: "transparent",
    textStyle: { color: colors.text, fontFamily: "inherit", fontSize: 12 },
    aria: { enabled: true, decal: { show: false } },
    ...option,
    tooltip: {
      renderMode: "richText",
      confine: true,
      backgroundColor: colors.panel,
      borderColor: colors.line,
      textStyle: { color: colors.text, fontSize: 12 },
      ...tooltip,
    },
  };
}

/** An axis of bytes with round steps: 0, 200, 400 MiB, not 191 and 382. */
export function bytesAxis(colors: Palette, largest: number, steps = 5): Record<string, unknown> {
  const raw = Math.max(1, largest) / steps;
  const unit = 1024 ** Math.max(0, Math.floor(Math.log2(raw) / 10));
  const interval = unit * ([1, 2, 5, 10, 20, 50, 100, 200, 500, 1024].find((step) => step * unit >= raw) ?? 1024);
  const max = Math.max(interval, Math.ceil(largest / interval) * interval);
  return {
    ...axis(colors),
    type: "value",
    min: 0,
    max,
    interval,
    axisLabel: { color: colors.muted, formatter: (value: number) => (value === 0 ? "0" : bytes(value).replace(".0 ", " ")) },
  };
}

export function axis(colors: Palette): Record<string, unknown> {
  return {
    axisLabel: { color: colors.muted },
    axisLine: { lineStyle: { color: colors.line } },
    axisTick: { lineStyle: { color: colors.line } },
    splitLine: { lineStyle: { color: colors.line, opacity: 0.6 } },
    nameTextStyle: { color: colors.muted },
  };
}
