// Airflow's own router: our pages are routes under its `plugin/chainwright/*`.
const host = (globalThis as any).ReactRouterDOM;
export const { Link, NavLink, Route, Routes, useLocation, useNavigate, useSearchParams } = host;
