// Airflow's own React: two copies on one page do not share hooks.
const host = (globalThis as any).React;
export default host;
export const { createElement, Fragment, useCallback, useEffect, useId, useMemo, useRef, useState, createContext, useContext, Component } = host;
