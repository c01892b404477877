const host = (globalThis as any).ReactJSXRuntime;
export const { Fragment, jsx, jsxs } = host;
