// What Airflow's UI puts on the global object for plugins, and what esbuild's text loader gives.
declare module "*.css" {
  const text: string;
  export default text;
}
