// A choice among a few, as radio buttons that look like one control.
import { useId } from "react";

interface Props<T extends string> {
  label: string;
  value: T;
  options: readonly (readonly [T, string])[];
  change: (value: T) => void;
}

export function Segments<T extends string>({ label, value, options, change }: Props<T>) {
  const name = useId();
  return (
    <fieldset className="cw-segments">
      <legend className="cw-hidden">{label}</legend>
      {options.map(([key, text]) => (
        <label key={key}>
          <input type="radio" name={name} checked={key === value} onChange={() => change(key)} />
          {text}
        </label>
      ))}
    </fieldset>
  );
}
